from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7), strictly increasing within a process and kind to indexes."""
    return _uuid7()


def uuid7_floor(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a moment: what was made at or after it has no smaller one, what was made before has.

    So the primary key finds rows by age, and no table needs a second index for it. Exact to the millisecond.
    """
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80 | 7 << 76 | 2 << 62)
