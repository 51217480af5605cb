"""Comments, attachments and articles on pages of their own."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from comments.models import Comment, TicketClosed
from knowledge.models import Article
from notifications.models import Event
from tests.admin.pages import form_of, last_event, page
from tickets.models import Attachment, Status

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


@pytest.fixture
def client(browser, agent):
    return browser(agent)


def test_write_a_comment(client, ticket, agent):
    ticket.status = Status.PENDING
    ticket.save()
    data = {"ticket": str(ticket.pk), "content": "One\r\ntwo", "parent": ""}
    assert client.post(page("comments_comment_add"), data).status_code == 302
    comment = Comment.objects.get()
    assert (comment.author, comment.content, comment.is_internal) == (agent, "One\ntwo", False)
    assert last_event("comment").actor == agent


def test_a_requester_among_the_staff_reopens_the_ticket(client, ticket, agent):
    ticket.status, ticket.requester = Status.SOLVED, agent
    ticket.save()
    client.post(page("comments_comment_add"), {"ticket": str(ticket.pk), "content": "Again", "parent": ""})
    ticket.refresh_from_db()
    assert ticket.status == Status.OPEN


def test_a_closed_ticket_takes_no_comment(client, ticket, monkeypatch):
    data = {"ticket": str(ticket.pk), "content": "x", "parent": ""}

    def closed_meanwhile(comment):
        raise TicketClosed

    with monkeypatch.context() as patch:
        patch.setattr(Comment, "post", closed_meanwhile)
        response = client.post(page("comments_comment_add"), data, follow=True)
        assert "This ticket is closed." in response.content.decode()
    ticket.status = Status.CLOSED
    ticket.save()
    response = client.post(page("comments_comment_add"), data)
    assert response.status_code == 200
    assert "This ticket is closed." in response.content.decode()
    assert not Comment.objects.exists()


@pytest.mark.parametrize("parent", ["nonsense", "01a20ae9-fad6-732f-93d0-63b7034d3cb2", "%"])
def test_a_wrong_parent_is_explained(client, ticket, parent):
    data = {"ticket": str(ticket.pk), "content": "x", "parent": parent}
    response = client.post(page("comments_comment_add"), data)
    assert response.status_code == 200
    assert "parent" in response.context["adminform"].form.errors


def test_edit_a_comment(client, comment, customer, agent):
    address = page("comments_comment_change", comment)
    form = form_of(client.get(address), "comment_form")
    assert "author" not in form
    assert client.post(address, {**form, "content": "Please hurry up.", "author": str(agent.pk)}).status_code == 302
    comment.refresh_from_db()
    assert (comment.content, comment.author) == ("Please hurry up.", customer)
    event = last_event("comment")
    assert (event.actor, event.changes) == (agent, {"content": ["Please hurry.", "Please hurry up."]})


def test_saving_a_comment_unchanged_is_no_news(client, comment):
    comment.content = " Lines\nof text \n"
    comment.save()
    count, address = Event.objects.count(), page("comments_comment_change", comment)
    assert client.post(address, form_of(client.get(address), "comment_form")).status_code == 302
    assert Event.objects.count() == count


def test_delete_a_comment(client, comment, agent):
    client.post(page("comments_comment_delete", comment), {"post": "yes"})
    comment.refresh_from_db()
    assert comment.deleted_at is not None
    assert (last_event("comment").action, last_event("comment").actor) == ("deleted", agent)


def test_write_publish_and_delete_an_article(client, agent):
    data = {"title": "New", "body": "One\r\ntwo", "status": "draft"}
    assert client.post(page("knowledge_article_add"), data).status_code == 302
    article = Article.objects.get()
    assert (article.author, article.body) == (agent, "One\ntwo")
    assert last_event("kb_article").visibility == "staff"
    address = page("knowledge_article_change", article)
    form = form_of(client.get(address), "article_form")
    client.post(address, {**form, "status": "published"})
    event = last_event("kb_article")
    assert (event.actor, event.changes, event.visibility) == (agent, {"status": ["draft", "published"]}, "public")
    article.refresh_from_db()
    assert article.published_at is not None
    client.post(page("knowledge_article_delete", article), {"post": "yes"})
    article.refresh_from_db()
    assert article.deleted_at is not None
    lines = [f"{entry.who} {entry.what}" for entry in _history(client, article)]
    assert lines == []  # a deleted article has no page
    assert Event.objects.filter(entity="kb_article").count() == 3


def _history(client, article):
    response = client.get(page("knowledge_article_history", article))
    return response.context["entries"] if response.status_code == 200 else []


def test_the_history_of_an_article(client, article, agent):
    address = page("knowledge_article_change", article)
    form = form_of(client.get(address), "article_form")
    client.post(address, {**form, "title": "How to <b>print</b>", "body": "Press."})
    html = client.get(page("knowledge_article_history", article)).content.decode()
    text = "changed the title from “How to print” to “How to &lt;b&gt;print&lt;/b&gt;”; edited the body"
    assert text in html


def test_attach_a_file_on_its_own_page(client, ticket, agent):
    data = {"ticket": str(ticket.pk), "file": SimpleUploadedFile("../a.png", PNG), "filename": "x/y:z.png"}
    assert client.post(page("tickets_attachment_add"), data).status_code == 302
    attachment = Attachment.objects.get()
    assert (attachment.filename, attachment.content_type, attachment.size) == ("y_z.png", "image/png", len(PNG))
    assert attachment.uploaded_by == agent
    assert last_event("attachment").actor == agent


@pytest.mark.parametrize(
    ("content", "message"), [(b"MZ\x90\x00" + b"\0" * 90, "are not accepted"), (b"x" * 2000, "larger than")]
)
def test_a_refused_file_is_explained(client, ticket, settings, content, message):
    settings.MAX_ATTACHMENT_BYTES = 1000
    data = {"ticket": str(ticket.pk), "file": SimpleUploadedFile("a.png", content)}
    response = client.post(page("tickets_attachment_add"), data)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert not Attachment.objects.exists()


def test_a_closed_ticket_takes_no_file(client, ticket):
    ticket.status = Status.CLOSED
    ticket.save()
    data = {"ticket": str(ticket.pk), "file": SimpleUploadedFile("a.png", PNG)}
    response = client.post(page("tickets_attachment_add"), data, follow=True)
    assert "This ticket is closed." in response.content.decode()
    assert not Attachment.objects.exists()


def test_rename_an_attachment(client, ticket, customer, agent, make_attachment):
    attachment = make_attachment(ticket, customer)
    address = page("tickets_attachment_change", attachment)
    form = form_of(client.get(address), "attachment_form")
    assert client.post(address, {**form, "filename": "a/b.txt"}).status_code == 200
    assert client.post(address, {**form, "filename": "b.txt", "is_internal": "on"}).status_code == 302
    attachment.refresh_from_db()
    assert (attachment.filename, attachment.is_internal, attachment.uploaded_by) == ("b.txt", True, customer)
    event = last_event("attachment")
    assert (event.actor, event.changes) == (agent, {"filename": ["hello.txt", "b.txt"], "is_internal": [False, True]})


def test_delete_an_attachment(client, ticket, customer, agent, make_attachment):
    attachment = make_attachment(ticket, customer)
    client.post(page("tickets_attachment_delete", attachment), {"post": "yes"})
    attachment.refresh_from_db()
    assert attachment.deleted_at is not None
    assert (last_event("attachment").action, last_event("attachment").actor) == ("deleted", agent)
