"""The package of `clients/js`: its own tests, and what it promises, against a server that is killed meanwhile."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from .api import DEMO_PASSWORD, NEW_PASSWORD, Api
from .client_package import PACKAGE, PackageClient, npm
from .system import REPOSITORY, System, installation
from .tokens import Forge

pytestmark = [pytest.mark.live, pytest.mark.once]

# Written by a process that has no sockets, while nothing serves.
COMMENT_BESIDE = """
from comments.models import Comment
from helpdesk.accounts.models import User
from tickets.models import Ticket
ticket, author = Ticket.objects.get(pk={ticket!r}), User.objects.get(username="agent")
for number in range({count}):
    Comment(ticket=ticket, author=author, content=f"Down {{number}}").post()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of these tests' own, to be killed."""
    with installation(tmp_path_factory.mktemp("package")) as system:
        system.start()
        yield system


@pytest.fixture(scope="module")
def agent(own: System) -> Api:
    return Api(own.base).sign_in("agent", DEMO_PASSWORD)


@pytest.fixture
def customer(own: System, request: pytest.FixtureRequest) -> Api:
    anyone = Api(own.base)
    name = f"front-{abs(hash(request.node.name)) % 10**8}"
    anyone.register(name)
    return anyone.sign_in(name, NEW_PASSWORD)


@pytest.fixture
def client(client_package: None, own: System) -> Iterator[Callable[..., PackageClient]]:
    opened: list[PackageClient] = []

    def open_client(*tokens: str, **options) -> PackageClient:
        opened.append(PackageClient(own.base, *tokens, **options))
        return opened[-1]

    yield open_client
    for it in opened:
        it.close()


def test_its_own_tests(client_package: None):
    ended = npm("test")
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert "# fail 0" in ended.stdout


def test_what_is_packed(client_package: None):
    packed = npm("pack", "--dry-run", "--json", "--ignore-scripts")
    [package] = json.loads(packed.stdout)
    files = {file["path"] for file in package["files"]}
    assert {
        "README.md",
        "package.json",
        "dist/index.js",
        "dist/index.d.ts",
        "dist/react.js",
        "dist/react.d.ts",
    } <= files
    assert not [name for name in files if not name.startswith("dist/") and name not in ("README.md", "package.json")]


def test_the_lock_names_no_registry():
    assert '"resolved"' not in (PACKAGE / "package-lock.json").read_text()


def test_nothing_is_missed_and_nothing_told_twice(
    client: Callable[..., PackageClient], own: System, agent: Api, customer: Api
):
    """The server is killed twice, at a bad moment; things happen before, while it is down, and after."""
    page = client(customer.access, rooms=("tickets", "comments"))
    page.said("resync", reason="start")
    ticket = customer.open_ticket("Through thick and thin")
    for round_ in range(2):
        for number in range(3):
            agent.comment_on(ticket["id"], f"Up {round_}.{number}")
        own.kill()
        page.said("status", count=round_ + 2, status="connecting")
        written = own.manage("shell", "-c", COMMENT_BESIDE.format(ticket=ticket["id"], count=2))
        assert written.returncode == 0, written.stderr
        own.start()
        page.said("status", count=round_ + 2, status="connected")
    last = agent.comment_on(ticket["id"], "Last")
    page.event("notification", id=last["id"])
    page.event("comment.update", id=last["id"])

    expected = [comment["id"] for comment in sorted(customer.comments(ticket["id"]), key=lambda it: it["created_at"])]
    assert len(expected) == 11
    assert [it["data"]["id"] for it in page.events("comment.update")] == expected
    assert [it["related_id"] for it in page.events("notification")] == expected
    assert len(page.events("ticket.update")) == 1
    assert [it["reason"] for it in page.all("resync")] == ["start"]
    assert page.all("error") == []


def test_a_token_is_renewed_and_the_connection_stays(client: Callable[..., PackageClient], own: System, customer: Api):
    forge = Forge(own.environment["SECRET_KEY"])
    page = client(forge.expiring(customer.access, 6), forge.expiring(customer.access, 60), customer.access)
    page.said("status", status="connected")
    page.said("token", count=2)
    time.sleep(6)  # the first token is over
    ticket = customer.open_ticket("Still there")
    assert page.ask("join", room=f"ticket:{ticket['id']}")["answer"] is None
    assert [it["status"] for it in page.all("status")] == ["connecting", "connected"]


def test_a_stale_token_is_replaced(client: Callable[..., PackageClient], own: System, customer: Api):
    forge = Forge(own.environment["SECRET_KEY"])
    page = client(forge.expired(customer.access), customer.access)
    page.said("status", status="connected")
    assert [it["refused"] for it in page.all("token")] == [False, True]
    assert page.all("status")[1] == {"kind": "status", "status": "connecting", "code": "token_expired"}


def test_who_has_no_right_is_told(client: Callable[..., PackageClient], own: System, customer: Api):
    page = client("no-token")
    page.said("status", status="closed", code="token_invalid")
    page = client(customer.access)
    page.said("status", status="connected")
    assert page.ask("join", room="users")["error"] == "forbidden"
    assert page.ask("join", room="nowhere")["error"] == "unknown_room"


def test_a_cursor_that_is_none_asks_for_a_fetch(client: Callable[..., PackageClient], agent: Api, customer: Api):
    page = client(customer.access, cursor=2**40, rooms=("tickets",))
    page.said("resync", reason="unknown_cursor")
    page.said("status", status="connected")
    ticket = customer.open_ticket("And on it goes")
    page.event("ticket.update", id=ticket["id"])


def test_reading_in_one_tab_is_reading_in_all(client: Callable[..., PackageClient], agent: Api, customer: Api):
    here, there = client(customer.access), client(customer.access)
    for page in (here, there):
        page.said("status", status="connected")
    ticket = customer.open_ticket("Read me")
    comments = [agent.comment_on(ticket["id"], text) for text in ("One", "Two")]
    first, _ = [here.event("notification", id=comment["id"]) for comment in comments]
    assert here.ask("read", id=first["id"])["answer"] == 1
    there.said("event", name="notification.read")
    customer.ask("POST", "/api/notifications/read-all")
    for page in (here, there):
        page.said("event", count=2, name="notification.read")
        assert [(it["id"], it["unread"]) for it in page.events("notification.read")] == [(first["id"], 1), (None, 0)]


def test_people_at_a_ticket_see_each_other(
    client: Callable[..., PackageClient], own: System, agent: Api, customer: Api
):
    admin = Api(own.base).sign_in("admin", DEMO_PASSWORD)
    ticket = customer.open_ticket("Who is there?")
    requester, one, other = client(customer.access), client(agent.access), client(admin.access)
    for page in (requester, one, other):
        page.said("status", status="connected")
        page.ask("watch", ticket=ticket["id"])
    names = {
        page: Api(own.base, it.access).me()["name"]
        for page, it in ((requester, customer), (one, agent), (other, admin))
    }

    def sees(page: PackageClient, viewing: set[str], typing: tuple[str, ...] = ()) -> None:
        page.inbox.one(
            lambda it: it["kind"] == "people" and set(it["viewing"]) == viewing and tuple(it["typing"]) == typing,
            f"{viewing} there, {typing} typing",
        )

    sees(one, {names[requester], names[other]})
    sees(other, {names[requester], names[one]})
    one.ask("typing")
    sees(requester, set(), (names[one],))
    started = time.monotonic()
    one.ask("stop")
    sees(other, {names[requester]})
    requester.ask("close")
    sees(other, set())
    assert time.monotonic() - started < 20, "long before it would fade"
    assert all(it["viewing"] == [] for it in requester.all("people"))


def test_the_types_are_those_of_the_server(client_package: None, own: System, tmp_path: Path):
    document, types = tmp_path / "asyncapi.yaml", tmp_path / "schema.ts"
    written = own.manage("document_sockets", "--document", str(document), "--types", str(types))
    assert written.returncode == 0, written.stderr
    assert types.read_text() == (PACKAGE / "src" / "schema.ts").read_text(), "run `manage.py document_sockets`"


def test_the_document_is_asyncapi(client_package: None):
    """By the schema that the AsyncAPI initiative publishes."""
    specification = PACKAGE / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    document = yaml.safe_load((REPOSITORY / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    validator = Draft7Validator(json.loads(specification.read_text()))
    error = best_match(validator.iter_errors(document))
    assert error is None, f"{error.json_path}: {error.message}"
    del document["info"]["title"]
    assert not validator.is_valid(document)
