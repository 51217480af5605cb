"""Who may publish: on PostgreSQL the session that holds an advisory lock, on SQLite the one server process.

The lock belongs to a database session and goes with it, however its process ends. Two kinds of death leave the session
open: a process that is frozen, and a machine that is gone without a word. A publisher at work asks the database
something every two seconds at least, so PostgreSQL itself knows how long it has been silent (`pg_stat_activity`, no
row is written for it), and whoever waits for the lock may end such a session: both have the same database role.

Session locks and LISTEN need a session of one's own. Behind PgBouncer that means `pool_mode=session`.
"""

import logging

from django.db import connection

logger = logging.getLogger(__name__)

LOCK_KEY = 0x68656C70  # "help"; any number that nobody else in this database uses
# Seconds without a word after which a publisher counts as frozen. It must survive a Python process that is busy.
SILENCE = 10
# The name of every publisher's session, at work or standing by; `doctor` counts them.
SESSION_NAME = "helpdesk publisher"

_HOLDER = """
    SELECT activity.pid, activity.state,
           EXTRACT(EPOCH FROM clock_timestamp() - activity.state_change) AS silence
    FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
      AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND lock.classid = 0 AND lock.objid = %s
"""


def acquire() -> bool:
    """Become the publisher if nobody at work is; true on SQLite. Asking again while holding it is for the caller."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [SESSION_NAME])
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
        if not cursor.fetchone()[0]:
            _end_frozen_holder()
            return False
        cursor.execute("LISTEN helpdesk_events")
    return True


def _end_frozen_holder() -> None:
    """End the holder's session when it has been silent for too long; the next try gets its lock.

    Only one that is waiting for its client is silent: a statement that takes long is work.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT pid, silence, pg_terminate_backend(pid) FROM ({_HOLDER}) AS holder"  # noqa: S608 - a constant
            " WHERE state LIKE 'idle%%' AND silence > %s",
            [LOCK_KEY, SILENCE],
        )
        for pid, silence, _ended in cursor.fetchall():
            logger.warning("The publisher of session %s said nothing for %.0f s: it is replaced.", pid, silence)


def let_go() -> None:
    """End the database session, and the lock and LISTEN with it; a pool would keep a session that is only closed."""
    if connection.vendor == "postgresql" and connection.connection is not None:
        connection.connection.close()
    connection.close()


def sessions() -> tuple[int, bool]:
    """How many publishers there are, and whether one of them is at work. PostgreSQL only."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()",
            [SESSION_NAME],
        )
        count = cursor.fetchone()[0]
        cursor.execute(_HOLDER, [LOCK_KEY])
        return count, cursor.fetchone() is not None
