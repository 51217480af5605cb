import pytest
from django.db import connection, transaction

from helpdesk.changes.unit import before_commit, unit

pytestmark = pytest.mark.django_db(transaction=True)


def test_runs_once_at_the_end_inside_the_transaction():
    ran = []

    def closing():
        ran.append(connection.in_atomic_block)

    with unit():
        before_commit(closing, key="a")
        before_commit(closing, key="a")
        with unit():
            before_commit(closing, key="a")
        assert ran == []
    assert ran == [True]


def test_returns_the_callback_that_will_run():
    first, second = (lambda: None), (lambda: None)
    with unit():
        assert before_commit(first, key="a") is first
        assert before_commit(second, key="a") is first


def test_what_the_closing_adds_is_closed_too():
    ran = []

    def first():
        ran.append("first")
        before_commit(lambda: ran.append("second"), key="a")

    with unit():
        before_commit(first, key="a")
    assert ran == ["first", "second"]


def test_a_failure_forgets_the_callbacks_and_rolls_back():
    ran = []
    with pytest.raises(ZeroDivisionError), unit():
        before_commit(lambda: ran.append(1), key="a")
        _ = 1 / 0
    with unit():
        pass
    assert ran == []


def test_needs_a_unit():
    with pytest.raises(RuntimeError):
        before_commit(lambda: None, key="a")


def test_a_unit_inside_a_transaction_ends_with_the_unit():
    ran = []
    with transaction.atomic():
        with unit():
            before_commit(lambda: ran.append(1), key="a")
        assert ran == [1]
