"""The documentation as its readers see it: pages with links, tables and snippets.

A snippet that a test runs has a name: the word after its language, as in ```` ```python follow ````.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent

REPOSITORY = Path(__file__).resolve().parents[2]

# A snippet may stand in a list, and is indented then.
_FENCE = re.compile(r"^ *```(?P<language>\w*) *(?P<name>[^\n]*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    language: str
    name: str
    text: str


class Page:
    """One Markdown file; `path` is relative to the repository."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = REPOSITORY / path
        self.text = self.file.read_text(encoding="utf-8")

    @cached_property
    def snippets(self) -> list[Snippet]:
        return [
            Snippet(*found.group("language", "name"), dedent(found["text"])) for found in _FENCE.finditer(self.text)
        ]

    def snippet(self, name: str) -> str:
        """The text of the one snippet of this name."""
        (found,) = [snippet.text for snippet in self.snippets if snippet.name == name]
        return found

    @cached_property
    def prose(self) -> str:
        """The text without its snippets."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_INLINE_CODE.sub("", self.prose))

    @property
    def anchors(self) -> set[str]:
        """What a link's `#…` may name, as code hosts make it of headings."""
        titles = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in _HEADING.findall(self.prose)]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    def section(self, title: str) -> str:
        """What stands under a heading, up to the next one of any level."""
        return re.split(r"^#+ ", self.text.split(f"# {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]

    def table(self, first_title: str) -> list[list[str]]:
        """The rows of the tables whose first column has this title, cell by cell."""
        rows = []
        for part in self.text.split(f"\n| {first_title} |")[1:]:
            lines = part.split("\n\n", 1)[0].splitlines()[2:]
            rows += [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
        return rows


def code_words(text: str) -> list[str]:
    """Everything in `backticks`."""
    return re.findall(r"`([^`]+)`", text)


def pages() -> list[Page]:
    """Every page of the repository."""
    files = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("clients/*/*.md")]
    return [Page(str(file.relative_to(REPOSITORY))) for file in sorted(files)]
