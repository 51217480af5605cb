"""What is past its retention goes, in batches; what is still needed stays, and cursors before a gap are told so."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes.actor import acting_as
from helpdesk.changes.identifiers import uuid7, uuid7_floor
from knowledge.models import Article, ArticleStatus
from notifications import expansion, publisher, retention
from notifications.models import (
    Event,
    EventStream,
    Notification,
    ReceivedWebhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookRecovery,
)
from notifications.rights import current_scopes, may_still_see
from notifications.webhooks import endpoints, recovery
from notifications.webhooks.recovery import Span
from tickets.models import Attachment, Ticket, TicketTag

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _each_by_itself(settings, monkeypatch):
    """A test says what has a retention; the rest is kept for ever. No pauses."""
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = settings.DELETED_RETENTION_DAYS = 0
    monkeypatch.setattr("notifications.retention.batches.PAUSE", 0)


def publish() -> None:
    publisher.publish_once(lambda messages: None)


def deliver() -> None:
    """Whatever waits arrives."""
    WebhookDelivery.objects.update(state="delivered", next_attempt_at=None)


def after(days: float) -> dict[str, int]:
    """Prune as if so many days had passed; what was removed."""
    return {name: count for name, count in retention.prune(timezone.now() + timedelta(days=days)).items() if count}


def pruned_position() -> int:
    return EventStream.objects.get().pruned_position


@pytest.fixture
def said(ticket, agent, customer):
    """Comments of the agent on the customer's ticket, who has an endpoint: a delivery each."""
    endpoints.create(customer, "http://127.0.0.1:9/hook")

    def said(count: int = 1, state: str = "delivered") -> list[Comment]:
        with acting_as(agent):
            comments = [Comment(ticket=ticket, author=agent, content=f"Answer {n}").post() for n in range(count)]
        fresh = WebhookDelivery.objects.filter(state="pending")
        for delivery in fresh:
            WebhookAttempt.objects.create(delivery=delivery, number=1, succeeded=state == "delivered")
        fresh.update(state=state, next_attempt_at=None)
        publish()
        return comments

    return said


# --- Ids as ages --------------------------------------------------------------------------------------------------


def test_an_id_is_as_old_as_it_was_made():
    before = timezone.now() - timedelta(milliseconds=2)
    made = uuid7()
    assert uuid7_floor(before) < made < uuid7_floor(timezone.now() + timedelta(milliseconds=2))
    assert uuid7_floor(before).version == 7
    assert uuid7_floor(datetime.min.replace(tzinfo=UTC)) < made


# --- Deliveries ---------------------------------------------------------------------------------------------------


def test_deliveries_that_are_done_go_with_their_attempts(said, settings):
    settings.WEBHOOK_RETENTION_DAYS = 30
    said(3)
    assert after(29.9) == {}
    assert after(30.1) == {"deliveries": 3}
    assert not WebhookAttempt.objects.exists()
    assert Notification.objects.filter(type="comment_on_ticket").count() == 3


@pytest.mark.parametrize("state", ["pending", "sending", "retrying", "held"])
def test_what_is_not_done_stays_with_all_that_it_is_made_from(said, settings, ticket, state):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = settings.DELETED_RETENTION_DAYS = 30
    comment = said(1, state)[0]
    comment.delete()
    ticket.delete()
    publish()
    after(400)
    delivery = WebhookDelivery.objects.get(notification__type="comment_on_ticket")
    assert delivery.attempts.exists()
    event = delivery.notification.event
    assert event.payload_customer
    # It is not forgotten that nobody may see it any more.
    assert current_scopes([event])
    deliver()
    after(400)
    assert not WebhookDelivery.objects.exists()
    assert not Notification.objects.exists()
    assert not Event.objects.exclude(entity__in=("user", "webhook")).exists()


def test_one_that_is_sent_again_at_that_moment_stays(said, settings, customer):
    settings.WEBHOOK_RETENTION_DAYS = 30
    said(2)
    delivery = WebhookDelivery.objects.first()
    recovery.redeliver([delivery])
    assert after(31) == {"deliveries": 1}
    assert WebhookDelivery.objects.get() == delivery


def test_recoveries_and_deleted_endpoints_go_last(said, settings, customer):
    settings.WEBHOOK_RETENTION_DAYS = 30
    said(2, "exhausted")
    endpoint = WebhookEndpoint.objects.get()
    recovery.start(endpoint, Span(timezone.now() - timedelta(days=1), timezone.now()))
    endpoints.delete(endpoint)
    assert WebhookDelivery.objects.filter(state="cancelled").count() == 2
    assert after(31) == {"deliveries": 2, "recoveries": 1, "endpoints": 1}
    assert not WebhookRecovery.objects.exists()
    assert not WebhookEndpoint.objects.exists()


# --- Events and notifications -------------------------------------------------------------------------------------


def test_of_what_exists_the_latest_event_stays(said, settings, ticket, customer, agent):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    comment = said(1)[0]
    for content in ("Second", "Third"):
        comment.content = content
        comment.save()
    ticket.title = "Still burning"
    ticket.save()
    publish()
    deliver()
    latest = {ticket.pk: Event.objects.filter(entity_id=ticket.pk).latest("pk")}
    latest[comment.pk] = Event.objects.filter(entity_id=comment.pk).latest("pk")
    removed = after(31)
    assert removed["events"] == 3  # the ticket's first, the comment's first two
    assert not Notification.objects.exists()
    for id_, event in latest.items():
        assert Event.objects.get(entity_id=id_) == event
    assert after(31) == {}
    # When there is a newer one, it goes too.
    ticket.title = "Out"
    ticket.save()
    publish()
    assert after(31)["events"] == 1
    assert Event.objects.get(entity_id=ticket.pk).changes["title"][1] == "Out"


def test_what_is_younger_stays_whole(said, settings):
    settings.EVENT_RETENTION_DAYS = settings.WEBHOOK_RETENTION_DAYS = 30
    said(3)
    before = Event.objects.count(), Notification.objects.count()
    assert after(29.9) == {}
    assert (Event.objects.count(), Notification.objects.count(), pruned_position()) == (*before, 0)


def test_present_rights_are_what_they_were(said, settings, ticket, customer, other_customer, agent):
    """A right that was lost long ago is not found again because the log forgot how it was lost."""
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    comment = said(1, "held")[0]
    comment.is_internal = True
    comment.save()
    ticket.requester = other_customer
    ticket.save()
    publish()
    event = WebhookDelivery.objects.filter(notification__type="comment_on_ticket").first().notification.event
    assert not may_still_see(event, customer.pk, "customer", current_scopes([event]))
    after(400)
    after(400)
    assert not may_still_see(event, customer.pk, "customer", current_scopes([event]))
    assert not may_still_see(event, other_customer.pk, "customer", current_scopes([event]))
    assert may_still_see(event, agent.pk, "agent", current_scopes([event]))


def test_events_that_were_not_sent_stay(ticket, customer, settings):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    for title in ("Two", "Three"):
        ticket.title = title
        ticket.save()
    count = Event.objects.count()
    assert after(400) == {}
    publisher.number_events()
    assert after(400) == {}
    assert Event.objects.count() == count
    publish()
    assert after(400)["events"] == 2


def test_an_announcement_needs_its_event_until_the_last_is_told(settings, agent, customer, make_user):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    settings.AUDIENCE_IN_TRANSACTION = 2
    for number in range(5):
        make_user(f"reader{number}")
    with acting_as(agent):
        article = Article.objects.create(title="T", body="B", author=agent, status=ArticleStatus.PUBLISHED)
        article.title = "Newer"
        article.save()
    publish()
    origin = Event.objects.get(expansion_pending=True)
    after(400)
    assert Event.objects.filter(pk=origin.pk).exists()
    while expansion.expand_next_batch(2):
        pass
    publish()
    assert Notification.objects.filter(type="kb_article_created").count() == 6
    assert after(400)["notifications"] == 6
    after(400)  # the batches went before what they came from
    assert [event.action for event in Event.objects.filter(entity_id=article.pk)] == ["updated"]


def test_a_received_webhook_goes_with_its_event(settings, said):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    said(1)
    event = Event.objects.create(
        entity="webhook", action="received", entity_id=uuid7(), visibility="person", payload_staff="{}"
    )
    ReceivedWebhook.objects.create(message_id="msg_1", event=event)
    publish()
    after(31)
    assert not ReceivedWebhook.objects.exists()


# --- The feed -----------------------------------------------------------------------------------------------------


def test_cursors_before_what_was_removed_are_too_old_and_no_others(api, said, settings, ticket, agent):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    said(3)
    young = EventStream.objects.get().last_position
    after(31)
    gap = pruned_position()
    assert 0 < gap <= young
    assert Event.objects.filter(position__lte=gap).exists()  # the latest of what exists
    said(2)
    last = EventStream.objects.get().last_position
    client = api(agent)
    for cursor in range(last + 1):
        response = client.get("/api/events", {"after": cursor})
        if cursor < gap:
            assert (response.status_code, response.json()["error"]["code"]) == (410, "cursor_too_old")
        else:
            assert response.status_code == 200
            seen = [frame["cursor"] for frame in response.json()["results"] if frame["event"] == "comment.update"]
            assert seen == [position for position in range(young + 1, last + 1) if position > cursor]
    whole = client.get("/api/events").json()
    assert {frame["cursor"] for frame in whole["results"]} == set(range(young + 1, last + 1))
    assert client.get("/api/events", {"after": whole["cursor"]}).status_code == 200


def test_the_gap_is_told_before_it_is_there(said, settings, monkeypatch):
    """Whoever reads at that moment is told of a gap that is not there yet, never the other way round."""
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    said(3)
    seen = []
    delete_rows = retention.log.delete_rows

    def watched(rows):
        if rows.model is Event:
            seen.append(max(rows.values_list("position", flat=True)) <= pruned_position())
        return delete_rows(rows)

    monkeypatch.setattr(retention.log, "delete_rows", watched)
    settings.DELETED_RETENTION_DAYS = 30
    Ticket.objects.get().delete()
    publish()
    after(31)
    assert seen
    assert all(seen)


# --- What was deleted ---------------------------------------------------------------------------------------------


@pytest.fixture
def conversation(said, ticket, agent, customer, make_attachment):
    """A ticket with tags, two comments, an answer to one of them, a note and a file."""
    ticket.set_tags(["fire"])
    comments = said(2)
    with acting_as(customer):
        answer = Comment(ticket=ticket, author=customer, content="Thanks", parent=comments[0]).post()
        attachment = make_attachment(ticket, customer)
    deliver()
    publish()
    return ticket, comments, answer, attachment


def test_a_deleted_ticket_goes_with_everything(conversation, settings, make_attachment, customer):
    settings.DELETED_RETENTION_DAYS = 30
    ticket, _, _, attachment = conversation
    other = Ticket.objects.create(title="Other", requester=customer)
    kept = make_attachment(other, customer)
    ticket.delete()
    publish()
    assert after(29.9) == {}
    assert Ticket._base_manager.filter(pk=ticket.pk).exists()
    removed = after(30.1)
    assert {name: removed[name] for name in ("tickets", "comments", "attachments")} == {
        "tickets": 1, "comments": 3, "attachments": 1,
    }  # fmt: skip
    for model in (Ticket, Comment, Attachment):
        assert set(model._base_manager.all()) <= {other, kept}
    assert not TicketTag.objects.exists()
    assert not default_storage.exists(attachment.file.name)
    assert not default_storage.exists(str(ticket.pk))
    assert default_storage.exists(kept.file.name)
    # Gone for good is gone from the log.
    assert not Event.objects.filter(ticket_id=ticket.pk).exists()
    assert (
        not Notification.objects.exclude(related_id__in=(other.pk, kept.pk))
        .filter(related_type__in=("ticket", "comment", "attachment"))
        .exists()
    )
    assert "Answer 0" not in str(list(Event.objects.values()))
    assert pruned_position() > 0
    assert after(30.1) == {}


@pytest.mark.parametrize("end", ["delivered", "cancelled"])
def test_what_was_still_to_be_sent_of_a_deleted_ticket_goes_when_that_is_done(conversation, settings, end):
    settings.DELETED_RETENTION_DAYS = 30
    ticket, *_ = conversation
    ticket.delete()
    publish()
    left = WebhookDelivery.objects.filter(notification__event__ticket_id=ticket.pk).order_by("pk")[:1]
    WebhookDelivery.objects.filter(pk__in=[left.get().pk]).update(state="held")
    assert after(30.1)["tickets"] == 1
    assert (WebhookDelivery.objects.count(), Event.objects.filter(ticket_id=ticket.pk).exists()) == (1, True)
    assert after(31) == {}
    WebhookDelivery.objects.update(state=end)
    removed = after(32)
    assert (removed["deliveries"], removed["notifications"]) == (1, 1)
    assert not Event.objects.filter(ticket_id=ticket.pk).exists()
    assert "Answer" not in str(list(Event.objects.values()))
    assert after(33) == {}


def test_of_a_ticket_that_stays_what_was_deleted_goes(conversation, settings, agent):
    settings.DELETED_RETENTION_DAYS = 30
    ticket, comments, answer, attachment = conversation
    comments[1].delete()
    attachment.delete()
    publish()
    deliver()
    removed = after(31)
    assert (removed["comments"], removed["attachments"], removed.get("tickets")) == (1, 1, None)
    assert set(Comment._base_manager.all()) == {comments[0], answer}
    assert not default_storage.exists(attachment.file.name)
    assert not Event.objects.filter(entity_id=comments[1].pk).exists()
    assert Event.objects.filter(entity_id=ticket.pk).exists()


def test_a_deleted_comment_that_is_answered_loses_its_words_and_holds_its_place(api, conversation, settings, agent):
    settings.DELETED_RETENTION_DAYS = 30
    _, comments, answer, _ = conversation
    comments[0].delete()
    publish()
    WebhookDelivery.objects.update(state="held")
    assert "comments" not in after(31)
    comments[0].refresh_from_db()
    assert comments[0].content == "Answer 0"  # it is still to be sent, and then says what it said
    deliver()
    assert "comments" not in after(31)
    comments[0].refresh_from_db()
    assert comments[0].content == ""
    assert "Answer 0" not in str(list(Event.objects.values()))
    assert Event.objects.get(entity_id=comments[0].pk).action == "deleted"
    [shown] = [it for it in api(agent).get("/api/comments").json()["results"] if it["id"] == str(answer.pk)]
    assert shown["parent_id"] == str(comments[0].pk)
    answer.delete()
    publish()
    assert after(31)["comments"] == 2
    assert set(Comment._base_manager.all()) == {comments[1]}


def test_a_deleted_article_goes_with_what_was_announced(settings, agent, customer, article):
    settings.DELETED_RETENTION_DAYS = 30
    publish()
    assert Notification.objects.filter(type="kb_article_created").exists()
    article.delete()
    publish()
    assert after(31)["articles"] == 1
    assert not Notification.objects.filter(type="kb_article_created").exists()
    assert not Event.objects.filter(entity="kb_article").exists()


def test_killed_between_a_file_and_its_row_the_next_run_goes_on(conversation, settings, monkeypatch):
    settings.DELETED_RETENTION_DAYS = 30
    attachment = conversation[3]
    attachment.delete()
    publish()

    class Killed(BaseException):
        pass

    def killed(rows):
        raise Killed

    delete_rows = retention.deleted.delete_rows
    monkeypatch.setattr(retention.deleted, "delete_rows", killed)
    with pytest.raises(Killed):
        after(31)
    assert not default_storage.exists(attachment.file.name)
    assert Attachment._base_manager.filter(pk=attachment.pk).exists()
    monkeypatch.setattr(retention.deleted, "delete_rows", delete_rows)
    assert after(31)["attachments"] == 1
    assert not Attachment._base_manager.exists()


def test_a_file_that_cannot_be_removed_keeps_its_row(conversation, settings, monkeypatch, caplog):
    settings.DELETED_RETENTION_DAYS = 30
    attachment = conversation[3]
    attachment.delete()
    publish()

    def refuse(name):
        raise PermissionError(name)

    monkeypatch.setattr(FileSystemStorage, "delete", lambda self, name: refuse(name))
    assert "attachments" not in after(31)
    assert Attachment._base_manager.filter(pk=attachment.pk).exists()
    assert f"The file of attachment {attachment.pk} could not be removed" in caplog.text


# --- Batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_size_of_batch_removes_the_same(conversation, settings, monkeypatch, size):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = settings.DELETED_RETENTION_DAYS = 30
    for module in ("batches", "deleted"):
        monkeypatch.setattr(f"notifications.retention.{module}.BATCH", size)
    conversation[0].delete()
    publish()
    after(31)
    after(31)
    assert not Ticket._base_manager.exists()
    assert not Event.objects.exclude(entity="user").exists()
    assert Event.objects.filter(entity="user").count() == User.objects.count()
    assert not Notification.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_killed_after_any_batch_the_next_run_ends_the_same(conversation, settings, monkeypatch):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = settings.DELETED_RETENTION_DAYS = 30
    for module in ("batches", "deleted"):
        monkeypatch.setattr(f"notifications.retention.{module}.BATCH", 2)
    conversation[0].delete()
    publish()

    class Killed(BaseException):
        pass

    def killed():
        raise Killed

    for module in ("log", "deleted"):
        monkeypatch.setattr(f"notifications.retention.{module}.pause", killed)
    runs = 0
    while True:
        runs += 1
        try:
            if not after(31):
                break
        except Killed:
            continue
    assert runs > 5
    assert not Ticket._base_manager.exists()
    assert not Event.objects.exclude(entity="user").exists()


def test_a_worker_that_is_to_end_stops_after_a_batch(conversation, settings, monkeypatch):
    settings.WEBHOOK_RETENTION_DAYS = 30
    monkeypatch.setattr("notifications.retention.batches.BATCH", 1)
    count = WebhookDelivery.objects.count()
    retention.stop()
    try:
        with pytest.raises(retention.Stopped):
            after(31)
    finally:
        retention.stopping.clear()
    assert WebhookDelivery.objects.count() == count - 1
    assert after(31) == {"deliveries": count - 1}


def test_answers_of_a_ticket_that_goes_may_be_in_any_batch(ticket, customer, settings, monkeypatch):
    """Ids of two machines need not be in the order in which things happened."""
    settings.DELETED_RETENTION_DAYS = 30
    monkeypatch.setattr("notifications.retention.deleted.BATCH", 1)
    ids = sorted((uuid7(), uuid7()))
    Comment.objects.create(id=ids[1], ticket=ticket, author=customer, content="Question")
    Comment.objects.create(id=ids[0], ticket=ticket, author=customer, content="Answer", parent_id=ids[1])
    ticket.delete()
    publish()
    assert after(31)["comments"] == 2


def test_a_batch_is_a_few_statements_however_many_rows(said, settings):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    counts = []
    for number in (5, 60):
        said(number)
        with CaptureQueriesContext(connection) as captured:
            after(31)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 40, counts


def test_a_dry_run_says_the_same_and_removes_nothing(conversation, settings):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = 30
    WebhookDelivery.objects.filter(pk=WebhookDelivery.objects.first().pk).update(state="held")
    before = Event.objects.count(), Notification.objects.count(), WebhookDelivery.objects.count()
    later = timezone.now() + timedelta(days=31)
    planned = {name: count for name, count in retention.planned(later).items() if count}
    assert (Event.objects.count(), Notification.objects.count(), WebhookDelivery.objects.count()) == before
    assert planned == after(31)


def test_more_days_than_the_calendar_has_are_for_ever(conversation, settings):
    settings.WEBHOOK_RETENTION_DAYS = settings.EVENT_RETENTION_DAYS = settings.DELETED_RETENTION_DAYS = 10**9
    assert after(31) == {}


def test_nothing_goes_where_everything_is_kept(conversation):
    conversation[0].delete()
    publish()
    assert after(36500) == {}
    assert not any(retention.planned(timezone.now() + timedelta(days=36500)).values())
