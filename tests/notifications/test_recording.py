"""Every change becomes the rows the contract's table says, in its transaction, and nothing else does."""

import json

import pytest
from django.core.files.base import ContentFile
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes.actor import acting_as
from helpdesk.changes.unit import unit
from knowledge.models import Article
from notifications import catalogue
from notifications.expansion import expand_next_batch
from notifications.models import Event, Notification, WebhookDelivery
from notifications.webhooks import endpoints, gates
from tickets.models import Attachment, Ticket

pytestmark = pytest.mark.django_db


def told(type_: str) -> set[str]:
    """Usernames of who got a notification of this type."""
    return set(Notification.objects.filter(type=type_).values_list("recipient__username", flat=True))


def all_told() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for type_, username in Notification.objects.values_list("type", "recipient__username"):
        found.setdefault(type_, set()).add(username)
    return found


@pytest.fixture(autouse=True)
def _people(admin, agent, customer, other_customer):
    """Everyone is there, and what was told of their coming is forgotten."""
    Event.objects.all().delete()


@pytest.fixture
def assigned(ticket, agent):
    """The customer's ticket, assigned to the agent; what was told of that is forgotten."""
    ticket.assignee = agent
    ticket.save()
    Event.objects.all().delete()
    return ticket


def comment_on(ticket, author, **fields) -> Comment:
    with acting_as(author):
        return Comment(ticket=ticket, author=author, content="Text", **fields).post()


def attach(ticket, author, **fields) -> Attachment:
    with acting_as(author):
        return Attachment.objects.create(
            ticket=ticket,
            uploaded_by=author,
            file=ContentFile(b"text", name="a.txt"),
            filename="a.txt",
            content_type="text/plain",
            size=4,
            **fields,
        )


class TestComments:
    def test_on_a_ticket_its_requester_and_assignee(self, assigned, admin):
        comment_on(assigned, admin)
        assert all_told() == {"comment_on_ticket": {"customer", "agent"}}

    def test_nobody_is_told_what_they_did_themselves(self, assigned, customer, agent):
        comment_on(assigned, customer)
        assert all_told() == {"comment_on_ticket": {"agent"}}

    def test_an_internal_note_reaches_the_assignee_only(self, assigned, admin):
        comment_on(assigned, admin, is_internal=True)
        assert all_told() == {"comment_on_ticket": {"agent"}}
        event = Event.objects.get()
        assert event.payload_customer is None

    def test_a_reply_is_told_to_the_parents_author_once(self, assigned, customer, agent, admin):
        question = comment_on(assigned, customer)
        Notification.objects.all().delete()
        comment_on(assigned, agent, parent=question)
        assert all_told() == {"reply_to_comment": {"customer"}}
        Notification.objects.all().delete()
        comment_on(assigned, admin, parent=question)
        assert all_told() == {"reply_to_comment": {"customer"}, "comment_on_ticket": {"agent"}}

    def test_an_internal_reply_never_reaches_a_customer(self, assigned, customer, admin):
        question = comment_on(assigned, customer)
        Notification.objects.all().delete()
        comment_on(assigned, admin, parent=question, is_internal=True)
        assert all_told() == {"comment_on_ticket": {"agent"}}

    def test_edited_and_deleted(self, assigned, customer, admin):
        comment = comment_on(assigned, admin)
        with acting_as(admin):
            comment.content = "Other"
            comment.save()
            comment.delete()
        assert told("comment_updated") == {"customer", "agent"}
        assert told("comment_deleted") == {"customer", "agent"}
        deleted = Event.objects.get(action="deleted")
        assert json.loads(deleted.payload_customer)["deleted_at"].endswith("Z")
        assert json.loads(deleted.payload_customer)["content"] == "Other"

    def test_a_reply_of_the_requester_reopens_and_tells_of_both_in_one_unit(self, assigned, customer):
        assigned.status = "pending"
        assigned.save()
        Event.objects.all().delete()
        comment_on(assigned, customer)
        assert Ticket.objects.get(pk=assigned.pk).status == "open"
        assert all_told() == {"comment_on_ticket": {"agent"}, "ticket_updated": {"agent"}}


class TestTickets:
    def test_a_new_one_is_told_to_administrators(self, admin, agent, customer):
        with acting_as(customer):
            Ticket.objects.create(title="Printer", requester=customer)
        assert all_told() == {"new_ticket": {"admin"}}
        assert Notification.objects.get().message == f"New ticket 'Printer' by {customer.display_name}"

    def test_created_with_tags_is_one_event(self, admin, customer):
        with unit():
            ticket = Ticket.objects.create(title="Printer", requester=customer)
            ticket.set_tags(["vip"])
        event = Event.objects.get()
        assert event.action == "created"
        assert json.loads(event.payload_staff)["tags"] == ["vip"]

    def test_updated_is_told_to_the_assignee_before_and_after(self, assigned, agent, admin):
        other = User.objects.create_user("agent2", "agent2@example.com", role="agent")
        Event.objects.all().delete()
        with acting_as(admin):
            assigned.assignee = other
            assigned.priority = "high"
            assigned.save()
        assert all_told() == {"ticket_updated": {"agent", "agent2"}}
        assert Notification.objects.first().message.endswith(": priority, assignee")

    def test_deleted_is_told_to_the_assignee_and_to_the_sockets_what_went_with_it(self, assigned, admin):
        comment_on(assigned, admin)
        attach(assigned, admin)
        comment_on(assigned, admin).delete()
        Event.objects.all().delete()
        with acting_as(admin):
            assigned.delete()
        assert all_told() == {"ticket_deleted": {"agent"}}
        events = Event.objects.order_by("id")
        assert [(it.entity, it.action) for it in events] == [
            ("ticket", "deleted"),
            ("comment", "deleted"),
            ("attachment", "deleted"),
        ]
        assert len({json.loads(it.payload_staff)["deleted_at"] for it in events}) == 1

    def test_moved_takes_along_what_the_requester_saw(self, ticket, admin, other_customer, customer):
        comment_on(ticket, admin)
        comment_on(ticket, admin, is_internal=True)
        attach(ticket, admin)
        Event.objects.all().delete()
        Notification.objects.all().delete()
        with acting_as(admin), unit():
            ticket.requester = other_customer
            ticket.save()
            comment_on(ticket, admin)  # is the new requester's from the start
        assert [(it.entity, it.action) for it in Event.objects.order_by("id")] == [
            ("ticket", "updated"),
            ("comment", "moved"),
            ("attachment", "moved"),
            ("comment", "created"),
        ]
        for event in Event.objects.exclude(action="created"):
            assert event.scope.admits(other_customer.pk, "customer")
            assert not event.scope.admits(customer.pk, "customer")
            assert event.previous_scope.admits(customer.pk, "customer")
        assert all_told() == {"comment_on_ticket": {other_customer.username}}

    def test_moved_to_another_requester_remembers_who_saw_it(self, ticket, customer, other_customer):
        ticket.requester = other_customer
        ticket.save()
        event = Event.objects.latest("id")
        assert event.scope.admits(other_customer.pk, "customer")
        assert not event.scope.admits(customer.pk, "customer")
        assert event.previous_scope.admits(customer.pk, "customer")

    def test_a_demoted_assignee_is_told_nothing(self, assigned, agent, admin):
        agent.role = "customer"
        agent.save()
        Event.objects.all().delete()
        with acting_as(admin):
            assigned.priority = "high"
            assigned.save()
        assert all_told() == {}


class TestPeople:
    def test_created_and_deactivated_are_told_to_administrators(self, admin, agent):
        user = User.objects.create_user("new", "new@example.com", name="New One")
        user.deactivate()
        assert all_told() == {"user_created": {"admin"}, "user_deactivated": {"admin"}}
        assert set(Event.objects.filter(entity_id=user.pk).values_list("visibility", flat=True)) == {"admins"}

    def test_a_sign_in_and_a_new_password_are_no_news(self, agent):
        Event.objects.all().delete()
        agent.last_login = agent.created_at
        agent.save()
        assert not Event.objects.exists()
        agent.set_password("another-password")
        agent.save()
        assert all_told() == {}
        # For the hubs alone, which end what was opened with the old one.
        (event,) = Event.objects.all()
        assert (event.entity, event.visibility, event.person_id) == ("session", "person", agent.pk)
        assert event.payload_staff == '{"session":null}'

    def test_inactive_people_are_told_nothing(self, assigned, agent, admin):
        agent.deactivate()
        Event.objects.all().delete()
        comment_on(assigned, admin)
        assert all_told() == {"comment_on_ticket": {"customer"}}


class TestKnowledgeBase:
    def test_a_draft_is_told_to_nobody_and_publishing_to_everyone_once(self, admin, agent, customer):
        with acting_as(agent):
            article = Article.objects.create(title="How to", body="Text", author=agent)
            assert all_told() == {}
            assert Event.objects.get(entity="kb_article").payload_customer is None
            article.status = "published"
            article.save()
            assert all_told() == {"kb_article_created": {"admin", "customer", "other_customer"}}
            article.status = "draft"
            article.save()
            article.status = "published"
            article.save()
        assert Notification.objects.filter(type="kb_article_created").count() == 3

    def test_taken_back_remembers_that_customers_saw_it(self, customer, agent):
        article = Article.objects.create(title="How to", body="Text", status="published")
        article.status = "draft"
        article.save()
        event = Event.objects.latest("id")
        assert not event.scope.admits(customer.pk, "customer")
        assert event.previous_scope.admits(customer.pk, "customer")


class TestAttachments:
    def test_added_updated_deleted(self, assigned, admin):
        attachment = attach(assigned, admin)
        with acting_as(admin):
            attachment.filename = "b.txt"
            attachment.save()
            attachment.delete()
        expected = {"customer", "agent"}
        assert all_told() == {
            "attachment_added": expected,
            "attachment_updated": expected,
            "attachment_deleted": expected,
        }

    def test_internal_ones_reach_the_assignee_only(self, assigned, admin):
        attach(assigned, admin, is_internal=True)
        assert all_told() == {"attachment_added": {"agent"}}


def test_every_type_of_the_contract_is_in_the_catalogue():
    """The fourteen that were asked for, and the one that tells of an endpoint that was disabled."""
    assert set(catalogue.TYPES) == {
        "comment_on_ticket", "reply_to_comment", "comment_updated", "comment_deleted", "new_ticket",
        "ticket_updated", "ticket_deleted", "user_created", "user_deactivated", "kb_article_created",
        "attachment_added", "attachment_updated", "attachment_deleted", "webhook_test",
    } | {"webhook_disabled"}  # fmt: skip


class TestDeliveries:
    def test_one_for_each_endpoint_that_wants_the_type(self, assigned, agent, admin):
        everything, _ = endpoints.create(agent, "http://127.0.0.1:9/a")
        endpoints.create(agent, "http://127.0.0.1:9/b", types=["ticket_updated"])
        deleted, _ = endpoints.create(agent, "http://127.0.0.1:9/c")
        endpoints.delete(deleted)
        comment_on(assigned, admin)
        assert [delivery.endpoint_id for delivery in WebhookDelivery.objects.all()] == [everything.pk]

    def test_held_while_the_endpoint_is_paused_and_released_when_it_goes_on(self, assigned, agent, admin):
        endpoint, _ = endpoints.create(agent, "http://127.0.0.1:9/a")
        endpoints.pause(endpoint)
        comment_on(assigned, admin)
        delivery = WebhookDelivery.objects.get()
        assert (delivery.state, delivery.next_attempt_at) == ("held", None)
        assert endpoints.resume(endpoint) == 1
        gates.release(timezone.now())
        delivery.refresh_from_db()
        assert delivery.state == "pending"


class TestTransactions:
    def test_rolled_back_leaves_nothing(self, admin, customer, django_capture_on_commit_callbacks):
        Event.objects.all().delete()
        with django_capture_on_commit_callbacks() as bells, pytest.raises(ZeroDivisionError), transaction.atomic():
            Ticket.objects.create(title="x", requester=customer)
            _ = 1 / 0
        assert bells == []
        assert not Event.objects.exists()
        assert not Notification.objects.exists()

    def test_nothing_changed_rings_nothing(self, ticket, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks(execute=True) as bells:
            ticket.save()
        assert bells == []

    def test_a_change_rings_after_the_commit(self, assigned, agent, admin, django_capture_on_commit_callbacks):
        endpoints.create(agent, "http://127.0.0.1:9/a")
        with django_capture_on_commit_callbacks() as bells:
            comment_on(assigned, admin)
        assert [bell.__name__ for bell in bells] == ["ring_publisher", "ring_deliveries"]

    def test_however_much_happens_in_a_unit_is_written_with_four_statements(self, admin, agent, customer):
        endpoints.create(admin, "http://127.0.0.1:9/a")
        with CaptureQueriesContext(connection) as captured, unit(), acting_as(customer):
            for number in range(5):
                Ticket.objects.create(title=f"Ticket {number}", requester=customer, assignee=agent)
        statements = [query["sql"] for query in captured.captured_queries]
        recorded = [sql.split('"')[1] for sql in statements if "notifications_" in sql]
        assert recorded == [
            "accounts_user",  # the recipients, with their endpoints
            "notifications_event",
            "notifications_notification",
            "notifications_webhookdelivery",
        ]
        assert WebhookDelivery.objects.count() == 5


class TestLargeAudiences:
    def test_are_left_to_the_worker_in_batches_that_tell_each_once(self, settings, admin):
        settings.AUDIENCE_IN_TRANSACTION = 3
        for number in range(7):
            User.objects.create_user(f"c{number}", f"c{number}@example.com")
        with acting_as(admin):
            article = Article.objects.create(title="How to", body="Text", status="published")
        event = Event.objects.get(entity_id=article.pk)
        assert event.expansion_pending
        assert told("kb_article_created") == set()
        assert expand_next_batch(size=3)
        assert len(told("kb_article_created")) == 3
        while expand_next_batch(size=3):
            pass
        everyone = set(User.objects.exclude(pk=admin.pk).values_list("username", flat=True))
        assert told("kb_article_created") == everyone
        batches = Event.objects.filter(action="announced", origin=event)
        assert batches.count() == 4  # ten people
        assert not expand_next_batch()

    def test_stop_when_the_article_is_taken_back(self, settings, admin):
        settings.AUDIENCE_IN_TRANSACTION = 0
        User.objects.create_user("c1", "c1@example.com")
        article = Article.objects.create(title="How to", body="Text", status="published")
        article.status = "draft"
        article.save()
        while expand_next_batch():
            pass
        assert told("kb_article_created") == set()
