"""Every link of every page leads somewhere, and so does what comes after its `#`."""

import tempfile
from pathlib import Path

import pytest

from tests.documentation.pages import REPOSITORY, Page, pages

ELSEWHERE = ("http://", "https://", "mailto:")
DOCUMENTS = [page for page in pages() if page.path != "docs/webhooks-and-realtime.md"]  # the original, kept as it came


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.path)
def test_links(page: Page):
    for link in page.links:
        if link.startswith(ELSEWHERE):
            continue
        target, _, anchor = link.partition("#")
        file = (page.file.parent / target).resolve() if target else page.file
        assert file.exists(), link
        if anchor:
            assert anchor in Page(str(file.relative_to(REPOSITORY))).anchors, link


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.path)
def test_no_page_speaks_of_a_place_of_ours(page: Page):
    for place in (REPOSITORY.parent, Path.home(), Path(tempfile.gettempdir())):
        assert f"{place}/" not in page.text
