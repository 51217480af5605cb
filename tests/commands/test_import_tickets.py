"""`import_tickets`: every good row becomes a ticket once, every bad one says why, whatever happens in between."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpdesk.accounts.models import Role, User
from helpdesk.management.ticket_import import importer
from helpdesk.management.ticket_import.table import MAX_VALUE
from notifications.models import Event, Notification, WebhookDelivery, WebhookEndpoint
from tests.commands.shell import Ended, manage
from tickets.models import Status, Ticket

pytestmark = pytest.mark.django_db

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = "id,subject,text,mail,state,urgency,labels,date"
ROW = '1,No light,It is dark.,ann@example.com,open,high,"lamp, Rear",2025-03-01'


@pytest.fixture
def write(tmp_path):
    """Write a CSV file of these lines; returns its path."""

    def write(*lines: str, encoding: str = "utf-8", name: str = "tickets.csv") -> Path:
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding, "surrogateescape"))
        return path

    return write


@pytest.fixture
def load():
    """Import a file with the mapping of HEADER; further options override it."""

    def load(path: Path, *options: str):
        mapping = {
            "--source": "old-desk",
            "--external-id": "id",
            "--title": "subject",
            "--description": "text",
            "--requester-email": "mail",
            "--status": "state",
            "--priority": "urgency",
            "--tags": "labels",
            "--created-at": "date",
        }
        return manage("import_tickets", path, *(word for option in mapping.items() for word in option), *options)

    return load


def errors(ended: Ended) -> list[str]:
    return ended.err.splitlines()


# --- What becomes of a good row -----------------------------------------------------------------------------------


def test_a_row_becomes_a_ticket(load, write):
    assert load(write(HEADER, ROW)).code == 0
    ticket = Ticket.objects.get()
    assert (ticket.title, ticket.description) == ("No light", "It is dark.")
    assert (ticket.status, ticket.priority, ticket.tags) == ("open", "high", ["lamp", "rear"])
    assert (ticket.source, ticket.external_id) == ("old-desk", "1")
    assert ticket.created_at == datetime(2025, 3, 1, tzinfo=UTC)
    assert (ticket.requester.email, ticket.requester.role) == ("ann@example.com", Role.CUSTOMER)
    assert not ticket.requester.has_usable_password()


def test_empty_cells_take_the_defaults(load, write):
    before = datetime.now(UTC)
    assert load(write(HEADER, "1,No light,,ann@example.com,,,,")).code == 0
    ticket = Ticket.objects.get()
    assert (ticket.description, ticket.status, ticket.priority, ticket.tags) == ("", "new", "normal", [])
    assert ticket.created_at >= before


def test_text_of_several_lines_and_quotes_and_commas(load, write):
    assert load(write(HEADER, '1,"A ""title"",\r\n broken","One\r\ntwo, ""three""",a@example.com,,,,')).code == 0
    ticket = Ticket.objects.get()
    assert ticket.title == 'A "title", broken'
    assert ticket.description == 'One\ntwo, "three"'


def test_templates_and_fixed_values(write, customer):
    file = write("a,b", "1,x", "2,y")
    ended = manage(
        "import_tickets", file, "--source", "s", "--external-id", "{a}-{b}", "--title", "{b}: {a}",
        "--requester", "customer", "--status", "closed", "--priority", "urgent",
    )  # fmt: skip
    assert ended.code == 0
    found = Ticket.objects.order_by("number").values_list("external_id", "title", "status", "priority", "requester_id")
    assert list(found) == [
        ("1-x", "x: 1", "closed", "urgent", customer.pk),
        ("2-y", "y: 2", "closed", "urgent", customer.pk),
    ]


def test_a_mapping_file_translates_values_and_options_override_it(load, write, tmp_path):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[values.status]\n"In Limbo" = "on_hold"\n"*" = "closed"\n[values.priority]\n"P1" = "urgent"\n')
    file = write(HEADER, "1,a,,a@example.com,in limbo,P1,,", "2,b,,a@example.com,gone,low,,", "3,c,,a@example.com,,,,")
    assert load(file, "--map", str(mapping)).code == 0
    found = Ticket.objects.order_by("number").values_list("status", "priority")
    assert list(found) == [("on_hold", "urgent"), ("closed", "low"), ("new", "normal")]


def test_a_mapping_file_may_be_json(write, tmp_path, customer):
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"source": "s", "external_id": "id", "title": "id", "requester": "customer"}))
    assert manage("import_tickets", write("id", "7"), "--map", mapping).code == 0
    assert Ticket.objects.get().external_id == "7"


def test_who_is_known_by_address_is_not_added_again(load, write, customer):
    file = write(HEADER, "1,a,,CUSTOMER@example.com,,,,", "2,b,,new@example.com,,,,", "3,c,,New@example.com,,,,")
    ended = load(file, "--json")
    assert json.loads(ended.out)["new_requesters"] == 1
    assert list(Ticket.objects.order_by("number").values_list("requester__username", flat=True)) == [
        "customer",
        "new@example.com",
        "new@example.com",
    ]


def test_an_address_that_is_no_username_gets_another_one(load, write):
    assert load(write(HEADER, "1,a,,o'hara@example.com,,,,")).code == 0
    requester = User.objects.get()
    assert requester.email == "o'hara@example.com"
    assert requester.username.startswith("customer-")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-03-01T10:00:00Z", datetime(2025, 3, 1, 10, tzinfo=UTC)),
        ("2025-03-01 10:00:00", datetime(2025, 3, 1, 10, tzinfo=UTC)),
        ("2025-03-01T10:00:00.5+02:00", datetime(2025, 3, 1, 8, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_times(load, write, text, moment):
    load(write(HEADER, f"1,a,,a@example.com,,,,{text}"))
    assert Ticket.objects.get().created_at == moment


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_other_encodings(load, write, encoding):
    file = write(HEADER, "1,Grün – naïve,,a@example.com,,,,", encoding=encoding)
    assert load(file, "--encoding", encoding).code == 0
    assert Ticket.objects.get().title == "Grün – naïve"


def test_another_delimiter(load, write):
    assert load(write(HEADER.replace(",", ";"), "1;a, b;;a@example.com;;;;"), "--delimiter", ";").code == 0
    assert Ticket.objects.get().title == "a, b"


# --- What is told -------------------------------------------------------------------------------------------------


def test_every_ticket_is_told_like_any_other(load, write, admin, agent):
    endpoint = WebhookEndpoint(owner=admin, url="https://hooks.example.com/")
    endpoint.set_secret("whsec_dGVzdC10ZXN0LXRlc3QtdGVzdA==")
    endpoint.save()
    Event.objects.all().delete()
    load(write(HEADER, ROW, "2,b,,ann@example.com,,,,"))
    assert list(Event.objects.order_by("id").values_list("entity", "action", "actor")) == [
        ("user", "created", None),
        ("ticket", "created", None),
        ("ticket", "created", None),
    ]
    told = Notification.objects.filter(recipient=admin)
    assert sorted(told.values_list("type", flat=True)) == ["new_ticket", "new_ticket", "user_created"]
    assert WebhookDelivery.objects.filter(endpoint=endpoint).count() == 3
    assert not Notification.objects.filter(recipient=agent).exists()


def test_who_imports_is_not_told_of_it(load, write, admin):
    Notification.objects.all().delete()
    load(write(HEADER, ROW), "--as", "admin")
    assert set(Event.objects.filter(entity="ticket").values_list("actor", flat=True)) == {admin.pk}
    assert not Notification.objects.filter(recipient=admin).exists()


# --- Again, and after an interruption -----------------------------------------------------------------------------


def test_a_second_run_adds_nothing(load, write):
    file = write(HEADER, ROW, "2,b,,ann@example.com,,,,")
    load(file)
    events = Event.objects.count()
    ended = load(file, "--json")
    assert ended.code == 0
    assert json.loads(ended.out) == {
        "file": str(file), "source": "old-desk", "dry_run": False, "rows": 2, "created": 0, "present": 2, "failed": 0,
        "new_requesters": 0, "stopped_by": None, "problems": [],
    }  # fmt: skip
    assert (Ticket.objects.count(), Event.objects.count()) == (2, events)


def test_a_changed_file_adds_only_what_is_new(load, write):
    load(write(HEADER, ROW))
    ended = load(write(HEADER, "2,b,,ann@example.com,,,,", ROW.replace("No light", "Still no light"), name="newer.csv"))
    assert ended.code == 0
    assert list(Ticket.objects.order_by("number").values_list("title", flat=True)) == ["No light", "b"]


def test_a_deleted_ticket_does_not_come_back(load, write):
    file = write(HEADER, ROW)
    load(file)
    Ticket.objects.get().delete()
    load(file)
    assert Ticket.objects.count() == 1


def test_the_same_id_of_another_source_is_another_ticket(load, write):
    file = write(HEADER, ROW)
    load(file)
    load(file, "--source", "older-desk")
    assert Ticket.objects.count() == 2


def test_an_import_that_broke_off_goes_on_where_it_ended(load, write, monkeypatch):
    file = write(HEADER, *(f"{number},t{number},,p{number}@example.com,,,," for number in range(1, 7)))
    set_tags = Ticket.set_tags

    def break_at_four(ticket, names):
        if ticket.title == "t4":
            raise KeyboardInterrupt
        set_tags(ticket, names)

    with monkeypatch.context() as broken:
        broken.setattr(Ticket, "set_tags", break_at_four)
        ended = load(file, "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["stopped_by"] == "interrupted"
    # The fourth was begun and is not half there: neither its ticket nor its requester nor an event of theirs.
    assert Ticket.objects.count() == User.objects.count() == 3
    assert Event.objects.count() == 6

    assert load(file).code == 0
    assert sorted(Ticket.objects.values_list("title", flat=True)) == ["t1", "t2", "t3", "t4", "t5", "t6"]
    assert Event.objects.count() == 12


def test_two_imports_at_once_import_a_row_once(load, write, monkeypatch):
    file = write(HEADER, ROW, "2,b,,ann@example.com,,,,")
    load(write(HEADER, ROW, name="first.csv"))
    is_present, answers = importer.Importer._is_present, []

    def overtaken(self, draft):
        """The first look is a moment too early: the other import commits right after it."""
        answers.append(bool(answers) and is_present(self, draft))
        return answers[-1]

    monkeypatch.setattr(importer.Importer, "_is_present", overtaken)
    ended = load(file, "--json")
    assert answers == [False, True, False]
    assert ended.code == 0
    assert [json.loads(ended.out)[name] for name in ("created", "present", "failed")] == [1, 1, 0]
    assert Ticket.objects.count() == 2


def test_a_dry_run_says_it_all_and_writes_nothing(load, write, customer):
    before = (User.objects.count(), Event.objects.count())
    file = write(HEADER, ROW, "2,b,,ann@example.com,,,,", "3,c,,customer@example.com,lost,,,")
    ended = load(file, "--dry-run")
    assert ended.code == 1
    assert next(line.split() for line in ended.out.splitlines() if line.startswith("  line"))[:3] == ["line", "2:", "1"]
    counts = dict(line.strip().rsplit(None, 1) for line in ended.out.splitlines() if line[-1:].isdigit())
    assert {name.strip(): int(count) for name, count in counts.items()} == {
        "tickets to create": 2,
        "here already": 0,
        "failed": 1,
        "new requesters to create": 1,
    }
    assert not Ticket.objects.exists()
    assert (User.objects.count(), Event.objects.count()) == before


# --- Bad rows -----------------------------------------------------------------------------------------------------

LONG = "x" * 20_001
BAD_ROWS = {
    "1,,text,a@example.com,,,,": "title: This field cannot be blank.",
    f"1,{'x' * 201},,a@example.com,,,,": "title: Ensure this value has at most 200 characters (it has 201).",
    f"1,a,{LONG},a@example.com,,,,": "description: Ensure this value has at most 20000 characters (it has 20001).",
    "1,a,nul\x00,a@example.com,,,,": "description: Control characters are not allowed.",
    ",a,,a@example.com,,,,": "external_id: It is empty; without it a second import could not know this ticket again.",
    f"{'9' * 101},a,,a@example.com,,,,": "external_id: Ensure this value has at most 100 characters (it has 101).",
    "1,a,,nobody,,,,": "requester_email: “nobody” is no e-mail address.",
    "1,a,,,,,,": "requester_email: It is empty; --requester can name who gets the tickets without an address.",
    "1,a,,a@example.com,lost,,,": "status: “lost” is not one of new, open, pending, on_hold, solved, closed; "
    "[values.status] can translate it.",
    "1,a,,a@example.com,,asap,,": "priority: “asap” is not one of low, normal, high, urgent; "
    "[values.priority] can translate it.",
    f"1,a,,a@example.com,,,{'t' * 51},": "tags: A tag has 1 to 50 printable characters.",
    f'1,a,,a@example.com,,,"{",".join(map(str, range(21)))}",': "tags: A ticket has at most 20 tags.",
    "1,a,,a@example.com,,,,31.12.2024": "created_at: “31.12.2024” is no ISO 8601 date or time, "
    "such as 2025-11-17T12:00:00Z.",
    "1,a,,a@example.com,,,,0217-03-21": "created_at: “0217-03-21” is not between 1970 and now.",
    "1,a,,a@example.com,,,,2999-01-01": "created_at: “2999-01-01” is not between 1970 and now.",
    "1,a,,a@example.com": "The row has 4 values, the header has 8 columns.",
    "1,a,,a@example.com,,,,,": "The row has 9 values, the header has 8 columns.",
    '1,"a" b,,a@example.com,,,,': "A closing quote is followed by more text. Quotes inside of a value must be doubled.",
    "1,gr\udcfcn,,a@example.com,,,,": "Column “subject” is not utf-8-sig text (--encoding names another encoding).",
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.items())
def test_a_bad_row_says_why_and_the_others_are_imported(load, write, row, message):
    ended = load(write(HEADER, "8,before,,a@example.com,,,,", row, "9,after,,a@example.com,,,,"))
    assert ended.code == 1
    assert errors(ended) == [f"line 3: {message}"]
    assert list(Ticket.objects.order_by("number").values_list("title", flat=True)) == ["before", "after"]


def test_everything_wrong_with_a_row_is_said_at_once(load, write):
    ended = load(write(HEADER, "1,,,nobody,lost,,,"))
    assert [line.split(":")[1].strip() for line in errors(ended)] == ["status", "requester_email", "title"]


def test_the_line_is_where_the_row_begins(load, write):
    ended = load(write(HEADER, '1,a,"two\nlines",a@example.com,,,,', "", "2,,,a@example.com,,,,"))
    assert errors(ended) == ["line 5: title: This field cannot be blank."]


def test_an_id_that_stands_twice_counts_once(load, write):
    for ended in (load(write(HEADER, ROW, "2,b,,b@example.com,,,,", ROW)) for _again in range(2)):
        assert ended.code == 1
        assert errors(ended) == ["line 4: external_id: “1” stands on line 2 already; the first one counts."]
    assert Ticket.objects.count() == 2


def test_a_quote_that_is_never_closed_is_found(load, write):
    ended = load(write(HEADER, ROW, '2,"b,,b@example.com,,,,', "3,c,,c@example.com,,,,"))
    assert ended.code == 1
    assert errors(ended) == [
        "line 3: A quoted value that begins in this row is never closed, so everything after it belongs to it."
    ]
    assert Ticket.objects.count() == 1


def test_a_quote_that_is_never_closed_does_not_swallow_a_large_file(load, write):
    filler = [f"{'y' * 4000},,,,,,," for _line in range(MAX_VALUE // 4000 + 1)]
    ended = load(write(HEADER, '1,"a,,a@example.com,,,,', *filler, "2,b,,b@example.com,,,,"))
    assert errors(ended)[0] == f"line 2: A value is longer than {MAX_VALUE:,} characters. Is a quote not closed?"
    assert Ticket.objects.get().title == "b"


def test_new_requesters_can_be_refused(load, write, customer):
    ended = load(write(HEADER, ROW, "2,b,,customer@example.com,,,,"), "--no-new-requesters")
    assert errors(ended) == ["line 2: requester_email: Nobody has the address ann@example.com."]
    assert Ticket.objects.get().requester == customer


def test_rows_without_an_address_can_go_to_one_person(load, write, customer):
    assert load(write(HEADER, "1,a,,,,,,"), "--requester", "customer@example.com").code == 0
    assert Ticket.objects.get().requester == customer


def test_problems_as_json(load, write):
    ended = load(write(HEADER, "1,,,a@example.com,,,,"), "--json")
    assert ended.err == ""
    assert json.loads(ended.out)["problems"] == [
        {"line": 2, "field": "title", "message": "This field cannot be blank."}
    ]


# --- Nothing can be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "No such file or directory."),
        (b"", (), "The file is empty."),
        ("id,subject".encode("utf-16"), (), "The file is UTF-16 text: --encoding utf-16."),
        (b"id,id", (), "The header has the column “id” more than once."),
        (b"id,gr\xfcn", (), "The header is not utf-8-sig text. --encoding names another encoding."),
        (b'id,"x', (), "The header cannot be read."),
        (b"id,subjct", (), "title: there is no column “subject”. Did you mean “subjct”?"),
        (b"id,a,b", (), "title: there is no column “subject”. There are: id, a, b."),
        (b"id,subject", ("--title", "{subjekt}"), "title: there is no column “subjekt”. Did you mean “subject”?"),
        (b"id,subject", ("--status", "gone"), "status: there is no column “gone”."),
        (b"id,subject", ("--requester", "x"), "There is nobody with the username or e-mail address “x”."),
        (b"id,subject", ("--as", "x"), "There is nobody with the username or e-mail address “x”."),
        (b"id,subject", ("--encoding", "latin-99"), "There is no encoding “latin-99”."),
        (b"id,subject", ("--delimiter", "||"), "The delimiter is one character."),
        (b"id,subject", ("--source", "x" * 51), "The source's name has 51 characters; 50 are allowed."),
    ],
)
def test_nothing_can_be_read(tmp_path, customer, content, options, message):
    path = tmp_path / "tickets.csv"
    if content is not None:
        path.write_bytes(content)
    basic = ("--source", "s", "--external-id", "id", "--title", "subject", "--requester", "customer")
    ended = manage("import_tickets", path, *basic, *options)
    assert ended.code == 2
    assert message in ended.err
    assert "\n" not in ended.err.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel = 'a'", "The mapping has “titel”, which means nothing. Did you mean “title”?"),
        ("title = 1", "The mapping's “title” is not what it should be"),
        ("tags = [1]", "The mapping's “tags” is not what it should be"),
        ("[values]\nstatus = 'a'", "The mapping's “values” is not what it should be"),
        ("[values.title]\na = 'b'", "[values.title]: only the values of status and priority can be translated."),
        ("[values.status]\na = 'b'", "[values.status]: “b” is not one of new, open,"),
        ("title = ", "is no TOML"),
    ],
)
def test_a_mapping_that_makes_no_sense(load, write, tmp_path, text, message):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(text)
    ended = load(write(HEADER, ROW), "--map", str(mapping))
    assert ended.code == 2
    assert message in ended.err
    assert not Ticket.objects.exists()


@pytest.mark.parametrize("missing", ["--source", "--external-id", "--title", "--requester"])
def test_what_must_be_given(write, missing):
    options = {"--source": "s", "--external-id": "id", "--title": "subject", "--requester": "customer"}
    del options[missing]
    ended = manage("import_tickets", write(HEADER), *(word for option in options.items() for word in option))
    assert ended.code == 2
    assert missing in ended.err


# --- The real file ------------------------------------------------------------------------------------------------


def test_the_real_complaints_all_become_tickets(customer, admin):
    complaints = REPOSITORY / os.environ.get("COMPLAINTS_CSV", "../shared/data/cfpb-complaints.csv")
    if not complaints.is_file():
        pytest.skip(f"no complaints at {complaints} (COMPLAINTS_CSV names the file)")
    mapping = REPOSITORY / "docs/examples/cfpb-complaints.toml"
    ended = manage("import_tickets", complaints, "--map", mapping, "--requester", "customer", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["created"] == 145
    assert Ticket.objects.count() == 145
    assert Ticket.objects.filter(description="").count() == 132
    assert Ticket.objects.filter(status=Status.OPEN).exists()
    assert Ticket.objects.get(external_id="2397100").tags == ["credit reporting", "older american", "phone"]
    assert Notification.objects.filter(recipient=admin, type="new_ticket").count() == 145
