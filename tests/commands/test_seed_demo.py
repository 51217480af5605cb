"""`seed_demo`: a help desk with a past, written once."""

from collections import Counter

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.management.demo import seeding
from helpdesk.management.demo.people import ACCOUNTS, PASSWORD
from knowledge.models import Article
from notifications.models import Event, Notification
from tests.commands.shell import manage
from tickets.models import Attachment, Priority, Status, Ticket

pytestmark = pytest.mark.django_db

MODELS = (User, Ticket, Comment, Attachment, Article, Event, Notification)


@pytest.fixture
def seeded():
    ended = manage("seed_demo")
    assert ended.code == 0, ended.err
    return ended


def test_the_accounts_can_sign_in(seeded):
    people = {user.username: user for user in User.objects.filter(username__in=ACCOUNTS)}
    assert {name: user.role for name, user in people.items()} == {name: name for name in ACCOUNTS}
    assert all(user.check_password(PASSWORD) and user.email == f"{name}@example.com" for name, user in people.items())
    assert PASSWORD in seeded.out


def test_there_is_something_of_everything(seeded):
    assert set(Ticket.objects.values_list("status", flat=True)) == set(Status.values)
    assert set(Ticket.objects.values_list("priority", flat=True)) == set(Priority.values)
    assert Counter(Article.objects.values_list("status", flat=True)) == {"published": 6, "draft": 2}
    assert Comment.objects.filter(is_internal=True).exists()
    assert Comment.objects.exclude(parent=None).exists()
    assert set(Attachment.objects.values_list("content_type", flat=True)) == {"image/png", "text/plain; charset=utf-8"}
    assert all(default_storage.exists(attachment.file.name) for attachment in Attachment.objects.all())
    customer = User.objects.get(username="customer")
    assert Ticket.objects.visible_to(customer).count() >= 3
    assert Notification.objects.filter(recipient=customer, read_at=None).exists()


def test_the_past_is_past_and_the_log_tells_the_same_story(seeded):
    now = timezone.now()
    for model, field in (
        (Ticket, "created_at"), (Ticket, "updated_at"), (Comment, "created_at"), (Article, "created_at"),
        (Attachment, "created_at"), (Event, "occurred_at"), (Notification, "created_at"),
    ):  # fmt: skip
        assert not model.objects.filter(**{f"{field}__gt": now}).exists(), (model, field)
    for comment in Comment.objects.select_related("ticket"):
        assert comment.created_at > comment.ticket.created_at
    numbers = list(Ticket.objects.order_by("created_at").values_list("number", flat=True))
    assert numbers == sorted(numbers)
    moments = list(Event.objects.order_by("id").values_list("occurred_at", flat=True))
    assert moments == sorted(moments)
    for ticket in Ticket.objects.all():
        last = Event.objects.filter(entity="ticket", entity_id=ticket.pk).latest("id")
        assert last.occurred_at == ticket.updated_at


def test_everything_was_done_by_whoever_did_it(seeded):
    for comment in Comment.objects.all():
        assert Event.objects.get(entity="comment", action="created", entity_id=comment.pk).actor_id == comment.author_id
    for ticket in Ticket.objects.all():
        created = Event.objects.get(entity="ticket", action="created", entity_id=ticket.pk)
        assert created.actor_id == ticket.requester_id


def test_a_second_run_adds_nothing(seeded):
    before = [model.objects.count() for model in MODELS]
    again = manage("seed_demo")
    assert again.code == 0
    assert "nothing was added" in again.out
    assert [model.objects.count() for model in MODELS] == before


def test_people_with_these_names_are_left_alone(make_user):
    make_user("agent", email="someone@else.example")
    ended = manage("seed_demo")
    assert ended.code == 1
    assert ended.err.strip().endswith("people who exist: agent.")
    assert [model.objects.count() for model in (User, Ticket)] == [1, 0]


def test_all_of_it_or_nothing(monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(seeding, "png", fail)
    with pytest.raises(OSError, match="disk full"):
        seeding.seed()
    assert [model.objects.count() for model in MODELS] == [0] * len(MODELS)
    assert (timezone.now() - timezone.now()).total_seconds() < 0  # the clock runs again


def test_never_in_production(settings):
    settings.PRODUCTION = True
    assert manage("seed_demo").code == 1
    assert not User.objects.exists()
