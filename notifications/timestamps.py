from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """UTC with microseconds and Z, as `DATETIME_FORMAT` writes it in the API."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
