"""The live rig: the product started as `make run` starts it, with stock clients around it.

What needs a program that is missing here is skipped with the reason; under `REQUIRE_ALL=1` (CI) that is a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from .api import Entity
from .client_package import PACKAGE, npm
from .node_scripts import NODE
from .people import People, gather
from .receivers import ExpressReceiver
from .sockets import SocketIoDriver
from .system import REPOSITORY, System, installation
from .tokens import Forge


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and REQUIRE_ALL=1 allows no skip", pytrace=False)
    pytest.skip(reason)


def require(tool: str) -> str:
    """The path of a program (`CHROMIUM` in the environment may name the browser's)."""
    named = os.environ.get("CHROMIUM") if tool == "chromium" else None
    path = shutil.which(named or tool)
    return path or unavailable(f"{named or tool} is not installed")


@pytest.fixture(scope="session")
def node() -> None:
    """Node with the pinned packages of `node/package-lock.json`, installed once."""
    install(NODE)


def install(folder: Path) -> None:
    """The pinned packages of a folder's lock file, unless they are there."""
    require("node")
    installed = folder / "node_modules" / ".package-lock.json"
    lock = folder / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = [require("npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        unavailable(f"npm ci failed: {result.stderr[-500:]}")


@pytest.fixture(scope="session")
def client_package(node: None) -> None:
    """The package of `clients/js`, built as it stands."""
    install(PACKAGE)
    built = npm("run", "build")
    assert built.returncode == 0, built.stdout + built.stderr


@pytest.fixture(scope="session")
def chromium(node: None) -> str:
    return require("chromium")


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The one system most tests share, on the seed's own port where that is free."""
    # Of several workers one has it; two that look at the same moment would both find it free.
    is_first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    with installation(tmp_path_factory.mktemp("live"), preferred_port=5000 if is_first else 0) as system:
        system.start()
        yield system
        system.stop()
        log = system.log()
    assert system.trouble() == ""
    for trace in ("whsec_", "eyJ"):
        assert trace not in log, f"the log holds a secret ({trace}…)"


@pytest.fixture(scope="session")
def receiver(node: None) -> Iterator[ExpressReceiver]:
    with ExpressReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def driver(node: None) -> Iterator[SocketIoDriver]:
    with SocketIoDriver() as driver:
        yield driver


@pytest.fixture(scope="session")
def people(system: System, request: pytest.FixtureRequest) -> Iterator[People]:
    """Everybody signed in. Node is started by whoever first listens, so that plain API tests do without it."""
    people = gather(
        system.base,
        receiver=lambda: request.getfixturevalue("receiver"),
        driver=lambda: request.getfixturevalue("driver"),
    )
    yield people
    for person in people:
        person.api.close()


@pytest.fixture(scope="session")
def cast(people: People, receiver: ExpressReceiver, driver: SocketIoDriver) -> People:
    """Everybody signed in and listening: a socket in every open room, and the Express receiver as webhook."""
    for person in people:
        person.listen()
    return people


@pytest.fixture(scope="session")
def forge(system: System) -> Forge:
    return Forge(system.environment["SECRET_KEY"])


@pytest.fixture
def ticket(people: People) -> Entity:
    """The customer's ticket, assigned to the agent; the colleague opened it for them."""
    return people.colleague.api.open_ticket(
        "The printer is on fire", requester_id=people.customer.id, assignee_id=people.agent.id
    )


@pytest.fixture(scope="session")
def complaints() -> Path:
    """The 145 real complaints, which stay outside of the repository."""
    path = REPOSITORY / os.environ.get("COMPLAINTS_CSV", "../shared/data/cfpb-complaints.csv")
    return path if path.is_file() else unavailable(f"no complaints at {path} (COMPLAINTS_CSV names the file)")
