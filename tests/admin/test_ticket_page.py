"""The page staff work on: the conversation, the answer form, the history and the webhooks."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from comments.models import Comment
from helpdesk.backoffice import ticket_page
from notifications.models import Event, Notification, WebhookDelivery
from tests.admin.pages import form_of, last_event, page
from tickets.models import Status, Ticket


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


def test_the_history_in_plain_words(client, address, ticket, agent, other_agent, admin, make_attachment):
    form = form_of(client.get(address), "ticket_form")
    client.post(address, {**form, "status": "open", "assignee": str(agent.pk), "tags": "fire, red"})
    form = form_of(client.get(address), "ticket_form")
    client.post(
        address, {**form, "assignee": str(other_agent.pk), "tags": "red", "description": "Out", "title": "Was on fire"}
    )
    form = form_of(client.get(address), "ticket_form")
    client.post(address, {**form, "assignee": "", "requester": str(admin.pk)})
    make_attachment(ticket, agent, filename="a.png")
    Comment(ticket=ticket, author=None, content="Beep", is_internal=True).post()
    entries = client.get(address).context["history"]
    lines = [f"{entry.who} {entry.what}" for entry in entries]
    assert lines == [
        "The system wrote an internal note",
        "The system attached the file “a.png”",
        "Agent changed the requester from Customer to Admin; took the ticket from Other_Agent",
        "Agent changed the title from “Printer on fire” to “Was on fire”; edited the description; "
        "assigned the ticket to Other_Agent (before: Agent); removed the tag fire",
        "Agent changed the status from New to Open; assigned the ticket to Agent; added the tags fire, red",
        "The system opened the ticket",
    ]
    assert [entry.is_internal for entry in entries] == [True, False, False, False, False, False]


def test_webhooks_the_ticket_caused_are_for_administrators_and_for_whom_they_went_to(
    client, browser, admin, address, endpoint, delivery, customer
):
    Ticket.objects.create(title="Another", requester=customer)
    response = browser(admin).get(address)
    assert list(response.context["deliveries"]) == [delivery]
    assert page("notifications_webhookdelivery_change", delivery) in response.content.decode()
    assert WebhookDelivery.objects.count() == 2
    response = client.get(address)
    assert list(response.context["deliveries"]) == []
    assert "hooks.example.com" not in response.content.decode()


def test_a_history_that_is_older_than_the_log_says_so(browser, agent, ticket, settings):
    words = "What was changed more than 30 days ago is not kept."
    settings.EVENT_RETENTION_DAYS = 30
    addresses = [page("tickets_ticket_change", ticket), page("tickets_ticket_history", ticket)]
    for address in addresses:
        assert words not in browser(agent).get(address).content.decode()
    Ticket.objects.filter(pk=ticket.pk).update_without_signals(created_at=timezone.now() - timedelta(days=31))
    for address in addresses:
        assert words in browser(agent).get(address).content.decode()
    settings.EVENT_RETENTION_DAYS = 0
    assert words not in browser(agent).get(addresses[0]).content.decode()
