"""A running system and stock clients for the snippets: the fixtures of the live tests, once more."""

import pytest

from tests.documentation.pages import Page
from tests.live.conftest import chromium, node, system

__all__ = ["chromium", "node", "system"]


@pytest.fixture
def readme() -> Page:
    return Page("README.md")
