"""A system of our own and stock clients for the snippets, as the live tests have them."""

from collections.abc import Iterator

import pytest

from tests.live.conftest import chromium, client_package, driver, node
from tests.live.system import System, installation

__all__ = ["chromium", "client_package", "driver", "node"]


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with installation(tmp_path_factory.mktemp("documentation")) as system:
        system.start()
        yield system
        system.stop()
