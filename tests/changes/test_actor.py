import pytest
from asgiref.sync import async_to_sync
from django.utils.functional import SimpleLazyObject

from helpdesk.changes.actor import acting_as, current_actor


def test_copying_a_context_does_not_look_at_a_lazy_user():
    """Under ASGI contexts are copied in the event loop, where a user that is still to be loaded must not be."""
    looked = []

    async def elsewhere() -> None: ...

    with acting_as(SimpleLazyObject(lambda: looked.append(1))):
        async_to_sync(elsewhere)()
    assert looked == []


@pytest.mark.django_db
def test_the_actor_is_who_the_block_says(agent, customer):
    assert current_actor() is None
    with acting_as(agent):
        with acting_as(customer):
            assert current_actor() == customer
        assert current_actor() == agent
        with acting_as(None):
            assert current_actor() is None
    assert current_actor() is None
