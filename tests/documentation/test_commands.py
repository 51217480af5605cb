"""Every `make` target and management command that a page names exists, and takes the options it is shown with."""

import re
import shlex

import pytest
from django.core.management import get_commands, load_command_class

from tests.documentation.pages import REPOSITORY, Page, pages

TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
PAGES = pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_make_targets(page: Page):
    named = re.findall(r"(?:^|`|= )make ([a-z-]+)", page.text, re.MULTILINE)
    assert set(named) - TARGETS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_management_commands(page: Page):
    named = re.findall(r"manage\.py ([a-z_]+)", page.text)
    assert set(named) - set(get_commands()) == set()


def lines() -> list[str]:
    """The whole command lines of all shell snippets; continued lines are one."""
    shells = [snippet.text for page in PAGES for snippet in page.snippets if snippet.language == "sh"]
    found = [line.strip() for text in shells for line in text.replace("\\\n", " ").splitlines()]
    return sorted({line for line in found if "manage.py " in line and not line.endswith("'")})


@pytest.mark.parametrize("line", lines())
def test_options(line: str):
    words = shlex.split(line, comments=True)
    name, *arguments = words[words.index("manage.py") + 1 :]
    app = get_commands()[name]
    command = load_command_class(app, name) if isinstance(app, str) else app
    command.create_parser("manage.py", name).parse_args(arguments)


def test_every_command_of_ours_is_named_somewhere():
    ours = {name for name, app in get_commands().items() if app in ("helpdesk", "notifications")}
    named = {
        name for page in PAGES for name in re.findall(r"manage\.py ([a-z_]+)|`([a-z_]+)`", page.text) for name in name
    }
    assert ours - named == set()
