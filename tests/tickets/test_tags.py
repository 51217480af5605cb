import pytest

from tickets.models import Ticket


@pytest.mark.parametrize("loaded", ["just made", "from the database"])
def test_tags_that_are_taken_away_are_gone(ticket, loaded):
    if loaded == "from the database":
        ticket = Ticket.objects.get(pk=ticket.pk)
    ticket.set_tags(["fire", "red"])
    ticket.set_tags(["red", "smoke"])
    assert ticket.tags == ["red", "smoke"]
    assert Ticket.objects.get(pk=ticket.pk).tags == ["red", "smoke"]
