import pytest

from comments.models import Comment
from helpdesk.accounts.models import User
from helpdesk.changes.actor import acting_as
from helpdesk.changes.signals import ModelSignal
from knowledge.models import Article
from tickets import signals
from tickets.models import Attachment, Ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def told():
    """What the ticket signals told: (signal name, action, changes, actor)."""
    heard = []

    def listen(signal, instance, action, changes, actor, **kwargs):
        heard.append((signal.name, action, changes, actor))

    ticket_signals = (signals.ticket_created, signals.ticket_updated, signals.ticket_deleted)
    for signal in ticket_signals:
        signal.connect(listen)
    yield heard
    for signal in ticket_signals:
        signal.disconnect(listen)


def test_creation_is_told_with_its_actor(told, customer):
    with acting_as(customer):
        Ticket.objects.create(title="Printer", requester=customer)
    assert told == [("ticket_created", "created", {}, customer)]


def test_changes_carry_old_and_new(told, ticket, agent):
    told.clear()
    ticket.status = "open"
    ticket.assignee = agent
    ticket.save()
    assert told == [("ticket_updated", "updated", {"status": ["new", "open"], "assignee_id": [None, agent.pk]}, None)]


def test_saving_the_same_again_tells_nobody_and_moves_no_time(told, ticket):
    told.clear()
    before = ticket.updated_at
    ticket.save()
    Ticket.objects.get(pk=ticket.pk).save()
    ticket.refresh_from_db()
    assert told == []
    assert ticket.updated_at == before


def test_only_saved_fields_count(told, ticket):
    told.clear()
    ticket.status, ticket.title = "open", "Other"
    ticket.save(update_fields=["title"])
    assert [changes for _, _, changes, _ in told] == [{"title": ["Printer on fire", "Other"]}]
    ticket.save()
    assert told[-1][2] == {"status": ["new", "open"]}


def test_a_field_that_was_not_loaded_is_asked_for(told, ticket):
    told.clear()
    partial = Ticket.objects.only("title").get(pk=ticket.pk)
    partial.status = "open"
    partial.save(update_fields=["status"])
    assert told[-1][2] == {"status": ["new", "open"]}


def test_tags_change_by_one_method_and_only_when_they_differ(told, ticket):
    told.clear()
    ticket.set_tags(["VIP", " printer "])
    ticket.set_tags(["printer", "vip"])
    assert [changes for _, _, changes, _ in told] == [{"tags": [[], ["printer", "vip"]]}]
    assert Ticket.objects.get(pk=ticket.pk).tags == ["printer", "vip"]


def test_deletion_is_soft_and_told_once(told, ticket):
    told.clear()
    same = Ticket.objects.get(pk=ticket.pk)
    ticket.delete()
    same.delete()
    assert [action for _, action, _, _ in told] == ["deleted"]
    assert Ticket.objects.filter(pk=ticket.pk).exists()


def test_deleting_a_query_set_tells_of_each(told, customer):
    for title in ("a", "b"):
        Ticket.objects.create(title=title, requester=customer)
    told.clear()
    Ticket.objects.all().delete()
    assert [action for _, action, _, _ in told] == ["deleted", "deleted"]


def test_a_failing_receiver_undoes_the_change(customer):
    def fail(**kwargs):
        raise RuntimeError("no")

    signals.ticket_created.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            Ticket.objects.create(title="x", requester=customer)
    finally:
        signals.ticket_created.disconnect(fail)
    assert not Ticket.objects.filter(title="x").exists()


@pytest.mark.parametrize("write", ["update", "bulk_create", "bulk_update"])
@pytest.mark.parametrize("model", [Ticket, Attachment, Comment, Article, User])
def test_writes_that_would_tell_nobody_are_refused(model, write):
    arguments = {"update": {}, "bulk_create": {"objs": []}, "bulk_update": {"objs": [], "fields": []}}[write]
    with pytest.raises(TypeError, match="would tell nobody"):
        getattr(model.objects, write)(**arguments)


def test_every_signal_says_when_it_is_sent():
    assert all(signal.description.endswith(".") for signal in ModelSignal.declared)
