"""`docs/events.md`, written from the catalogue, so that what is documented is what happens."""

from collections.abc import Iterable

from notifications import catalogue
from notifications.catalogue import Row

_INTRODUCTION = """\
# Events and notifications

<!-- Written by `manage.py document_events` from notifications/catalogue.py and the signals: change those instead. -->

Every change is written down once, as an event, in the transaction of the change. From it come notifications for the
people concerned (each with a webhook delivery for every endpoint that wants its type) and events on the sockets.

Nobody is notified of what they did themselves, `webhook_test` apart. Nobody is told of what they may not see: rights
are checked when the change happens and again when it is told. A change that changes nothing is no event."""


def events_document() -> str:
    """The whole text of `docs/events.md`."""
    types = _table(
        ("Type", "`related_type`", "What happened", "Who gets it", "Message"),
        _types(),
    )
    signals = _table(
        ("Signal", "Event", "Notifications", "When it is sent"),
        [
            (f"`{row.signal.name}`", f"{row.entity} {row.action}", _type_names(row), row.signal.description)
            for row in catalogue.ROWS
        ],
    )
    return (
        "\n\n".join(
            (
                _INTRODUCTION,
                "## Notification types",
                "A person gets one notification of an event, of the first type below that is about them. "
                "Words in `%(…)s` are filled in.",
                types,
                "## Signals",
                "What the model layer sends, whatever made the change: the API, the admin, a shell or a command. "
                "The shapes of the entities in `data` are those of the API (`/api/docs`).",
                signals,
            )
        )
        + "\n"
    )


def _types() -> Iterable[tuple[str, ...]]:
    """A line for each type, in the catalogue's order."""
    for one in catalogue.DESCRIPTIONS.values():
        yield f"`{one.type}`", f"`{one.related_type}`", one.description, one.recipients, one.message


def _type_names(row: Row) -> str:
    return ", ".join(f"`{rule.type}`" for rule in row.rules) or "none"


def _table(titles: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    cells = [titles, ("---",) * len(titles), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)
