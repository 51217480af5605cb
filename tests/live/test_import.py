"""Real input: 145 complaints from a file, while the system runs; what an import does is told like everything else."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .people import People, Person, gather
from .receivers import ExpressReceiver
from .sockets import SocketIoDriver
from .system import System, installation

pytestmark = pytest.mark.live


@dataclass
class Import:
    """A system of its own with both admins listening, the file imported once, and what stood before it."""

    system: System
    people: People
    rows: list[dict[str, str]]
    file: Path
    before: frozenset[str]  # ids of the tickets that the demo data made
    ids: frozenset[str] = frozenset()  # of those that the first run imported; other tests import more

    def records(self, admin: Person) -> list[dict[str, str]]:
        """What the admin was told of the imported tickets."""
        return [it for it in admin.api.notifications("new_ticket") if it["related_id"] in self.ids]

    @property
    def admins(self) -> tuple[Person, Person]:
        return self.people.admin, self.people.boss

    def run(self, *options: str) -> str:
        """Import the complaints and give the output; the command knows nothing of the people who listen."""
        result = self.system.manage("import_tickets", str(self.file), *OPTIONS, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


OPTIONS = (
    "--source", "cfpb",
    "--external-id", "complaint_id",
    "--title", "issue",
    "--description", "consumer_complaint_narrative",
    "--requester", "customer",
)  # fmt: skip


def tickets(person: Person) -> list[str]:
    return [ticket["id"] for ticket in person.api.pages("/api/tickets")]


@pytest.fixture(scope="module")
def imported(
    tmp_path_factory: pytest.TempPathFactory, complaints: Path, receiver: ExpressReceiver, driver: SocketIoDriver
) -> Iterator[Import]:
    with complaints.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with installation(tmp_path_factory.mktemp("import")) as system:
        system.start()
        people = gather(system.base, lambda: receiver, lambda: driver)
        for admin in (people.admin, people.boss):
            assert admin.socket
            admin.secret = admin.api.set_webhook(receiver.url(f"import-{admin.username}"))["secret"]
        done = Import(system, people, rows, complaints, before=frozenset(tickets(people.admin)))
        done.run()
        done.ids = frozenset(tickets(people.admin)) - done.before
        yield done
        for person in people:
            person.api.close()
        assert system.trouble() == ""


def test_every_row_is_a_ticket(imported: Import) -> None:
    assert len(imported.rows) == 145
    assert len(imported.ids) == 145
    titles = sorted(ticket["title"] for ticket in imported.people.admin.api.pages("/api/tickets"))
    for row in imported.rows:
        assert row["issue"] in titles


def test_every_admin_has_a_record_of_each(imported: Import) -> None:
    known = set(tickets(imported.people.admin))
    for admin in imported.admins:
        related = [record["related_id"] for record in imported.records(admin)]
        assert len(related) == len(set(related)) == 145
        assert set(related) <= known


def test_every_admin_got_a_webhook_for_each(imported: Import, receiver: ExpressReceiver) -> None:
    for admin in imported.admins:
        name = f"import-{admin.username}"
        receiver.inbox.wait_for(
            lambda message, name=name: message["kind"] == "request" and message["person"] == name,
            f"webhooks for {admin.username}",
            count=145,
            timeout=60,
        )
        requests = receiver.requests(name)
        heads = {record["id"] for record in imported.records(admin)}
        of_them = [request for request in requests if request["payload"]["notification"]["id"] in heads]
        assert {request["payload"]["notification"]["id"] for request in of_them} == heads
        assert len({request["headers"]["webhook-id"] for request in of_them}) == len(of_them) == 145


def test_every_admin_heard_each_on_the_socket(imported: Import) -> None:
    for admin in imported.admins:
        admin.socket.inbox.wait_for(
            lambda message: message["kind"] == "event" and message["event"] == "ticket.update",
            "ticket.update",
            count=145,
        )
        heads = {record["id"] for record in imported.records(admin)}
        admin.socket.inbox.wait_for(
            lambda message: message["kind"] == "event" and message["event"] == "notification", "notification", count=145
        )
        assert {payload["id"] for payload in admin.socket.events("notification")} >= heads
        updates = [it for it in admin.socket.events("ticket.update") if it["data"]["id"] in imported.ids]
        assert {payload["action"] for payload in updates} == {"created"}
        assert {payload["data"]["id"] for payload in updates} <= set(tickets(admin))
        cursors = [payload["cursor"] for payload in updates]
        assert len(set(cursors)) == len(cursors) == 145


def test_a_second_run_adds_nothing(imported: Import) -> None:
    before = tickets(imported.people.admin)
    unread = [admin.api.unread() for admin in imported.admins]
    imported.run()
    assert tickets(imported.people.admin) == before
    assert [admin.api.unread() for admin in imported.admins] == unread


def test_a_dry_run_adds_nothing(imported: Import) -> None:
    before = tickets(imported.people.admin)
    result = imported.system.manage(
        "import_tickets", str(imported.file), *OPTIONS, "--source", "somewhere-else", "--dry-run"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert tickets(imported.people.admin) == before


def test_broken_rows_are_named_and_the_others_are_imported(imported: Import, tmp_path: Path) -> None:
    before = len(tickets(imported.people.admin))
    file = tmp_path / "broken.csv"
    file.write_text(
        "complaint_id,issue,consumer_complaint_narrative\n"
        "1,A good one,\n"
        ",No id,text\n"
        "3,,No title\n"
        "4,Another good one,with text\n"
        f"5,{'x' * 5000},too long a title\n"
    )
    result = imported.system.manage("import_tickets", str(file), *OPTIONS, "--source", "broken")
    said = result.stdout + result.stderr
    assert result.returncode != 0, said
    assert "Traceback" not in said
    for row in ("3", "4", "6"):
        assert row in said, f"line {row} of the file is named"
    assert len(tickets(imported.people.admin)) == before + 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00\x01", b"complaint_id\n1\n", b'a,b\n"unclosed'],
    ids=["empty", "binary", "columns", "quote"],
)
def test_a_file_that_is_no_such_file_is_refused_in_a_line(imported: Import, tmp_path: Path, content: bytes) -> None:
    before = len(tickets(imported.people.admin))
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    result = imported.system.manage("import_tickets", str(file), *OPTIONS)
    assert result.returncode != 0
    assert "Traceback" not in result.stdout + result.stderr
    assert len(tickets(imported.people.admin)) == before
