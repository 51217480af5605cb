"""Ticket numbers: unique, rising, never reused; gaps are allowed."""

from django.db import connection

SEQUENCE = "tickets_ticket_number"


def next_ticket_number() -> int:
    """The next number. PostgreSQL: from a sequence, so that two transactions never wait for each other.

    SQLite: from a one-row table, inside the caller's IMMEDIATE transaction, which is the only writer.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SELECT nextval('{SEQUENCE}')")
        else:
            cursor.execute(f"UPDATE {SEQUENCE} SET last = last + 1 RETURNING last")
        return cursor.fetchone()[0]
