"""The page staff work on."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from comments.models import Comment
from helpdesk.backoffice import ticket_page
from notifications.models import Event, Notification, WebhookDelivery
from tests.admin.pages import form_of, last_event, page
from tickets.models import Attachment, Status, Ticket

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@pytest.fixture
def client(browser, agent):
    return browser(agent)


@pytest.fixture
def address(ticket) -> str:
    return page("tickets_ticket_change", ticket)


@pytest.fixture
def answer(client, address):
    """Fill in the answer form and send it: `answer(content="Hello", is_internal="True")`."""

    def send(**fields):
        data = {**form_of(client.get(address), "answer"), **fields}
        return client.post(f"{address.removesuffix('change/')}answer/", data)

    return send


def upload(client, address: str, name: str, content: bytes, **fields):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile(name, content), **fields}
    return client.post(f"{address.removesuffix('change/')}upload/", data)


# --- the fields ---------------------------------------------------------------------------------------------------
def test_a_save_that_changes_nothing_is_no_news(client, address, ticket):
    ticket.description = "  Lines\n\nof text, kept as they are.\n"
    ticket.save()
    ticket.set_tags(["fire", "floor 2"])
    before, count = Ticket.objects.filter(pk=ticket.pk).values().get(), Event.objects.count()
    response = client.post(address, form_of(client.get(address), "ticket_form"))
    assert response.status_code == 302
    assert Event.objects.count() == count
    assert Ticket.objects.filter(pk=ticket.pk).values().get() == before


def test_fields_and_tags_are_told_as_one_change_with_its_actor(client, address, ticket, agent, other_agent):
    count = Event.objects.count()
    form = form_of(client.get(address), "ticket_form")
    form |= {"status": "open", "assignee": str(other_agent.pk), "tags": "Fire,  floor 2 ,"}
    assert client.post(address, form).status_code == 302
    event = last_event("ticket")
    assert Event.objects.count() == count + 1
    assert event.actor == agent
    assert event.changes == {
        "status": ["new", "open"],
        "assignee_id": [None, str(other_agent.pk)],
        "tags": [[], ["fire", "floor 2"]],
    }
    notification = Notification.objects.get(recipient=other_agent)
    assert (notification.type, notification.event) == ("ticket_updated", event)


def test_a_stale_page_does_not_put_back_what_others_changed(client, address, ticket):
    form = form_of(client.get(address), "ticket_form")
    theirs = Ticket.objects.get(pk=ticket.pk)
    theirs.status, theirs.title = Status.PENDING, "Printer still on fire"
    theirs.save()
    theirs.set_tags(["urgent"])
    assert client.post(address, {**form, "priority": "high"}).status_code == 302
    ticket = Ticket.objects.get(pk=ticket.pk)
    assert (ticket.priority, ticket.status, ticket.title, ticket.tags) == (
        "high",
        "pending",
        "Printer still on fire",
        ["urgent"],
    )
    assert set(last_event("ticket").changes) == {"priority"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("title", "", "This field is required."),
        ("title", "x" * 201, "at most 200 characters"),
        ("description", "\x01", "Control characters are not allowed."),
        ("description", "x" * 20_001, "at most 20000 characters"),
        ("status", "broken", "is not one of the available choices"),
        ("requester", "nonsense", "is not a valid UUID"),
        ("tags", ",".join(str(n) for n in range(21)), "A ticket has at most 20 tags."),
        ("tags", "x" * 51, "A tag has 1 to 50 printable characters."),
    ],
)
def test_bad_fields_are_explained_and_nothing_is_saved(client, address, ticket, field, value, message):
    count = Event.objects.count()
    form = {**form_of(client.get(address), "ticket_form"), "priority": "high", field: value}
    response = client.post(address, form)
    assert response.status_code == 200
    assert message in response.content.decode().replace("&#x27;", "'")
    assert Event.objects.count() == count
    assert Ticket.objects.get(pk=ticket.pk).priority == "normal"


def test_only_active_staff_can_be_assigned_and_only_active_people_request(
    client, address, ticket, customer, other_customer, other_agent
):
    other_agent.deactivate()
    other_customer.deactivate()
    form = form_of(client.get(address), "ticket_form")
    for wrong in (
        {"assignee": str(customer.pk)},
        {"assignee": str(other_agent.pk)},
        {"requester": str(other_customer.pk)},
    ):
        response = client.post(address, {**form, **wrong})
        assert response.status_code == 200
        assert response.context["adminform"].form.errors.keys() == wrong.keys()


def test_whoever_is_deactivated_since_stays_on_the_ticket(client, address, ticket, customer, other_agent):
    ticket.assignee = other_agent
    ticket.save()
    other_agent.deactivate()
    customer.deactivate()
    form = form_of(client.get(address), "ticket_form")
    assert client.post(address, {**form, "priority": "high"}).status_code == 302
    ticket.refresh_from_db()
    assert (ticket.assignee, ticket.requester, ticket.priority) == (other_agent, customer, "high")


def test_open_a_ticket_for_a_customer(client, customer, agent):
    data = {
        "title": "By phone",
        "description": "One\r\ntwo",
        "requester": str(customer.pk),
        "status": "open",
        "priority": "low",
        "tags": "phone",
    }
    assert client.post(page("tickets_ticket_add"), data).status_code == 302
    ticket = Ticket.objects.get()
    assert (ticket.title, ticket.description, ticket.tags) == ("By phone", "One\ntwo", ["phone"])
    event = Event.objects.get(entity="ticket")
    assert (event.action, event.actor, event.changes) == ("created", agent, {})


@pytest.mark.parametrize("query", ["requester=nonsense", "assignee=%00", "tags=a,b&title=<b>", "status=nonsense"])
def test_a_prefilled_form_takes_nonsense(client, query):
    assert client.get(f"{page('tickets_ticket_add')}?{query}").status_code == 200


def test_delete_is_soft_and_told(client, ticket, agent, comment):
    response = client.get(page("tickets_ticket_delete", ticket))
    assert "Are you sure" in response.content.decode()
    assert client.post(page("tickets_ticket_delete", ticket), {"post": "yes"}).status_code == 302
    ticket.refresh_from_db()
    assert ticket.deleted_at is not None
    event = last_event("ticket")
    assert (event.action, event.actor) == ("deleted", agent)
    assert Comment.objects.filter(pk=comment.pk, deleted_at=None).exists()


def test_delete_selected_is_soft_and_told_one_by_one(client, customer, agent):
    tickets = [Ticket.objects.create(title=f"T{n}", requester=customer) for n in range(3)]
    data = {"action": "delete_selected", "_selected_action": [ticket.pk for ticket in tickets[:2]]}
    listing = page("tickets_ticket_changelist")
    assert "Are you sure" in client.post(listing, data).content.decode()
    assert client.post(listing, {**data, "post": "yes"}).status_code == 302
    assert list(Ticket.objects.filter(deleted_at=None)) == [tickets[2]]
    assert Ticket.objects.count() == 3
    deletions = Event.objects.filter(entity="ticket", action="deleted")
    assert {(event.entity_id, event.actor) for event in deletions} == {(ticket.pk, agent) for ticket in tickets[:2]}


def test_assign_to_me(client, ticket, agent):
    data = {"action": "assign_to_me", "_selected_action": [ticket.pk]}
    response = client.post(page("tickets_ticket_changelist"), data, follow=True)
    assert "1 ticket is now assigned to you." in response.content.decode()
    event = last_event("ticket")
    assert (event.actor, event.changes) == (agent, {"assignee_id": [None, str(agent.pk)]})


# --- the conversation ---------------------------------------------------------------------------------------------
def test_the_conversation_is_in_order_and_notes_stand_out(
    client, address, ticket, comment, note, make_attachment, agent
):
    attachment = make_attachment(ticket, agent, filename="map.txt")
    internal = make_attachment(ticket, agent, filename="suspects.txt", is_internal=True)
    html = client.get(address).content.decode()
    order = [
        html.index(f'id="{kind}-{thing.pk}"')
        for kind, thing in (
            ("comment", comment),
            ("comment", note),
            ("attachment", attachment),
            ("attachment", internal),
        )
    ]
    assert order == sorted(order)
    assert html.index("It burns.") < order[0]
    assert f'id="comment-{note.pk}" class="message comment internal"' in html
    assert f'id="comment-{comment.pk}" class="message comment by-requester"' in html
    assert f'id="attachment-{internal.pk}" class="message attachment internal"' in html
    assert f'href="/api/attachments/{attachment.pk}/download"' in html


def test_the_link_of_an_attachment_brings_its_bytes(client, ticket, agent, make_attachment, browser, other_customer):
    attachment = make_attachment(ticket, agent, content=b"Here it is")
    address = f"/api/attachments/{attachment.pk}/download"
    assert b"".join(client.get(address).streaming_content) == b"Here it is"
    assert browser(other_customer).get(address).status_code == 404


def test_everything_is_escaped(client, address, ticket, customer, agent, make_attachment):
    evil = "<script>alert(1)</script>"
    customer.name = evil
    customer.save()
    ticket.title, ticket.description = evil, f"**bold** {evil}"
    ticket.save()
    ticket.set_tags([evil])
    Comment(ticket=ticket, author=customer, content=f"# Heading {evil}").post()
    make_attachment(ticket, customer, filename="a&b.txt")
    for place in (address, page("tickets_ticket_changelist"), page("comments_comment_changelist"), page("index")):
        html = client.get(place).content.decode()
        assert evil not in html
    html = client.get(address).content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "**bold**" in html  # Markdown is not rendered
    assert "# Heading" in html


def test_a_long_conversation_is_bounded(client, address, ticket, customer, monkeypatch):
    monkeypatch.setattr("helpdesk.backoffice.conversation.MAX_ITEMS", 5)
    for n in range(7):
        Comment(ticket=ticket, author=customer, content=f"Comment no. {n}.").post()
    html = client.get(address).content.decode()
    assert "Comment no. 1." not in html
    assert "Comment no. 2." in html
    assert "Comment no. 6." in html
    assert "What is older is not shown here" in html


def test_the_page_costs_the_same_however_long_the_conversation(
    client, browser, admin, address, ticket, customer, agent
):
    def queries(client) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address).status_code == 200
        return len(captured)

    def talk(count: int) -> None:
        for n in range(count):
            Comment(ticket=ticket, author=customer if n % 2 else agent, content="Hello").post()
            ticket.assignee = agent if n % 2 else admin
            ticket.save()

    boss = browser(admin)
    talk(2)
    few = queries(client), queries(boss)
    talk(30)
    many = queries(client), queries(boss)
    assert few == many
    assert many[1] <= 16


def test_answer_with_a_reply(answer, ticket, agent, customer):
    response = answer(content="We are\r\non our way.")
    comment = Comment.objects.get()
    assert response.status_code == 302
    assert response["Location"] == f"{page('tickets_ticket_change', ticket)}#comment-{comment.pk}"
    assert (comment.content, comment.author, comment.is_internal) == ("We are\non our way.", agent, False)
    event = last_event("comment")
    assert (event.actor, event.action, event.visibility) == (agent, "created", "requester")
    assert Notification.objects.filter(recipient=customer, type="comment_on_ticket", event=event).exists()


def test_answer_with_an_internal_note(answer, ticket, agent, customer):
    assert answer(content="Do not tell.", is_internal="True").status_code == 302
    comment = Comment.objects.get()
    assert (comment.author, comment.is_internal) == (agent, True)
    assert last_event("comment").visibility == "staff"
    assert not Notification.objects.filter(recipient=customer).exists()


def test_answer_a_comment(client, answer, address, ticket, comment, note, customer):
    html = client.get(f"{address}?reply_to={comment.pk}")
    form = form_of(html, "answer")
    assert form["parent"] == str(comment.pk)
    assert answer(content="Yes.", parent=form["parent"]).status_code == 302
    assert Comment.objects.get(content="Yes.").parent == comment
    assert Notification.objects.filter(recipient=customer, type="reply_to_comment").exists()
    # A reply to a note is proposed as one, and cannot be anything else.
    assert form_of(client.get(f"{address}?reply_to={note.pk}"), "answer")["is_internal"] == "True"
    refused = answer(content="Oops", parent=str(note.pk), is_internal="False")
    assert refused.status_code == 400
    assert "A reply to an internal note is internal too." in refused.content.decode()
    assert not Comment.objects.filter(content="Oops").exists()


@pytest.mark.parametrize("wrong", ["nonsense", "01a20ae9-fad6-732f-93d0-63b7034d3cb2", ""])
def test_a_wrong_parent_in_the_address_is_ignored(client, address, wrong):
    assert form_of(client.get(f"{address}?reply_to={wrong}"), "answer")["parent"] == ""


def test_a_comment_of_another_ticket_is_no_parent(answer, customer, comment):
    other = Ticket.objects.create(title="Another", requester=customer)
    elsewhere = Comment(ticket=other, author=customer, content="Hi").post()
    assert answer(content="x", parent=str(elsewhere.pk)).status_code == 400
    assert Comment.objects.count() == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "This field is required."),
        (" \r\n ", "This field is required."),
        ("x" * 20_001, "at most 20000 characters"),
        ("a\x07b", "Control characters are not allowed."),
    ],
)
def test_a_bad_answer_is_shown_again_with_what_is_wrong(answer, content, message):
    response = answer(content=content)
    assert response.status_code == 400
    assert message in response.content.decode()
    assert "Your answer was not sent." in response.content.decode()
    assert not Comment.objects.exists()


def test_a_closed_ticket_takes_no_answer_and_loses_no_text(client, answer, address, ticket, agent):
    data = {**form_of(client.get(address), "answer"), "content": "A long and careful answer"}
    ticket.status = Status.CLOSED
    ticket.save()
    response = client.post(f"{address.removesuffix('change/')}answer/", data)
    assert response.status_code == 409
    html = response.content.decode()
    assert "This ticket is closed." in html
    assert form_of(response, "answer")["content"] == "A long and careful answer"
    assert not Comment.objects.exists()
    html = client.get(address).content.decode()
    assert "takes no more replies" in html
    assert 'id="answer"' not in html


def test_a_double_click_answers_once(client, address):
    data = {**form_of(client.get(address), "answer"), "content": "Once"}
    for _ in range(3):
        response = client.post(f"{address.removesuffix('change/')}answer/", data)
        assert response.status_code == 302
    comment = Comment.objects.get()
    assert response["Location"].endswith(f"#comment-{comment.pk}")
    # Back in the browser, and something else written: that is another answer.
    assert client.post(f"{address.removesuffix('change/')}answer/", {**data, "content": "Twice"}).status_code == 302
    assert sorted(Comment.objects.values_list("content", flat=True)) == ["Once", "Twice"]


def test_a_double_click_that_overtakes_itself_answers_once(client, address, ticket, agent, monkeypatch):
    data = {**form_of(client.get(address), "answer"), "content": "Once"}
    write = ticket_page.AnswerForm.write

    def overtaken(form):
        Comment(id=form.instance.pk, ticket=ticket, author=agent, content="Once").post()
        write(form)

    monkeypatch.setattr(ticket_page.AnswerForm, "write", overtaken)
    response = client.post(f"{address.removesuffix('change/')}answer/", data)
    assert response.status_code == 302
    assert Comment.objects.count() == 1
    assert Event.objects.filter(entity="comment").count() == 1


def test_the_answer_page_by_itself_leads_to_the_ticket(client, address):
    for what in ("answer", "upload"):
        response = client.get(f"{address.removesuffix('change/')}{what}/")
        assert (response.status_code, response["Location"]) == (302, address)


def test_customers_and_strangers_cannot_answer(browser, customer, address):
    for client in (browser(customer), browser()):
        for what in ("answer", "upload"):
            response = client.post(
                f"{address.removesuffix('change/')}{what}/", {"content": "x", "is_internal": "False"}
            )
            assert response.status_code == 302
            assert response["Location"].startswith("/admin/login/")
    assert not Comment.objects.exists()


def test_a_deleted_ticket_takes_no_answer(client, address, ticket):
    data = {**form_of(client.get(address), "answer"), "content": "Too late"}
    ticket.delete()
    response = client.post(f"{address.removesuffix('change/')}answer/", data)
    assert response.status_code == 302
    assert not Comment.objects.exists()


# --- files --------------------------------------------------------------------------------------------------------
def test_attach_a_file(client, address, ticket, agent):
    response = upload(client, address, "../../ev<i>l\u202egnp.exe", PNG, **{"upload-is_internal": "on"})
    attachment = Attachment.objects.get()
    assert response["Location"] == f"{address}#attachment-{attachment.pk}"
    assert (attachment.content_type, attachment.size, attachment.is_internal) == ("image/png", len(PNG), True)
    assert attachment.filename == "ev_i_lgnp.exe"
    assert attachment.uploaded_by == agent
    with attachment.file.open() as file:
        assert file.read() == PNG
    assert (last_event("attachment").actor, last_event("attachment").visibility) == (agent, "staff")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "The submitted file is empty."),
        ("big.txt", b"x" * 2000, "The file is larger than"),
        ("program.txt", b"MZ\x90\x00" + b"\0" * 100, "are not accepted"),
        ("data.txt", b"\xff\xfe\xfd\xfc", "are not accepted"),
    ],
)
def test_a_refused_file_is_explained(client, address, settings, name, content, message):
    settings.MAX_ATTACHMENT_BYTES = 1000
    response = upload(client, address, name, content)
    assert response.status_code == 400
    assert message in response.content.decode()
    assert not Attachment.objects.exists()


def test_no_file_chosen(client, address):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    response = client.post(f"{address.removesuffix('change/')}upload/", {"upload-new_id": new_id})
    assert response.status_code == 400
    assert "This field is required." in response.content.decode()


def test_too_many_attachments(client, address, settings, tmp_path):
    settings.MAX_ATTACHMENTS_PER_TICKET = 1
    assert upload(client, address, "a.png", PNG).status_code == 302
    response = upload(client, address, "b.png", PNG)
    assert response.status_code == 409
    assert "A ticket has at most 1 attachments." in response.content.decode()
    assert Attachment.objects.count() == 1
    assert len([path for path in (tmp_path / "attachments").rglob("*") if path.is_file()]) == 1


def test_a_closed_ticket_takes_no_file(client, address, ticket, tmp_path):
    client.get(address)
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    ticket.status = Status.CLOSED
    ticket.save()
    data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile("a.png", PNG)}
    response = client.post(f"{address.removesuffix('change/')}upload/", data)
    assert response.status_code == 409
    assert "This ticket is closed." in response.content.decode()
    assert not Attachment.objects.exists()


def test_a_full_disk_is_explained(client, address, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("django.core.files.storage.FileSystemStorage._save", full)
    response = upload(client, address, "a.png", PNG)
    assert response.status_code == 409
    assert "The file could not be stored." in response.content.decode()
    assert not Attachment.objects.exists()


def test_a_double_click_attaches_once(client, address, tmp_path):
    new_id = client.get(address).context["upload_form"]["new_id"].value()
    for _ in range(2):
        data = {"upload-new_id": new_id, "upload-file": SimpleUploadedFile("a.png", PNG)}
        assert client.post(f"{address.removesuffix('change/')}upload/", data).status_code == 302
    assert Attachment.objects.count() == 1
    assert len([path for path in (tmp_path / "attachments").rglob("*") if path.is_file()]) == 1


# --- history and deliveries ---------------------------------------------------------------------------------------
def test_the_history_in_plain_words(client, browser, address, ticket, agent, other_agent, customer, admin):
    form = form_of(client.get(address), "ticket_form")
    client.post(address, {**form, "status": "open", "assignee": str(agent.pk), "tags": "fire, red"})
    form = form_of(client.get(address), "ticket_form")
    client.post(
        address, {**form, "assignee": str(other_agent.pk), "tags": "red", "description": "Out", "title": "Was on fire"}
    )
    form = form_of(client.get(address), "ticket_form")
    client.post(address, {**form, "assignee": "", "requester": str(admin.pk)})
    upload(client, address, "a.png", PNG)
    Comment(ticket=ticket, author=None, content="Beep", is_internal=True).post()
    entries = client.get(address).context["history"]
    lines = [f"{entry.who} {entry.what}" for entry in entries]
    assert lines == [
        "The system wrote an internal note",
        "Agent attached the file “a.png”",
        "Agent changed the requester from Customer to Admin; took the ticket from Other_Agent",
        "Agent changed the title from “Printer on fire” to “Was on fire”; edited the description; "
        "assigned the ticket to Other_Agent (before: Agent); removed the tag fire",
        "Agent changed the status from New to Open; assigned the ticket to Agent; added the tags fire, red",
        "The system opened the ticket",
    ]
    assert [entry.is_internal for entry in entries] == [True, False, False, False, False, False]


def test_webhooks_the_ticket_caused_are_for_administrators(
    client, browser, admin, address, endpoint, delivery, customer
):
    Ticket.objects.create(title="Another", requester=customer)
    response = browser(admin).get(address)
    assert list(response.context["deliveries"]) == [delivery]
    assert page("notifications_webhookdelivery_change", delivery) in response.content.decode()
    assert WebhookDelivery.objects.count() == 2
    response = client.get(address)
    assert "deliveries" not in response.context
    assert "hooks.example.com" not in response.content.decode()
