"""Arguments of the webhook commands: times, people, endpoints and deliveries as an operator names them."""

import argparse
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from django.core.management import CommandError

from helpdesk.accounts.models import User
from notifications.models import WebhookEndpoint
from notifications.webhooks import signing
from notifications.webhooks.signing import SecretError

# A secret on the command line is seen in the shell's history and by everyone who lists processes.
SECRET_VARIABLE = "WEBHOOK_SECRET"  # noqa: S105 - a name


def moment(text: str) -> datetime:
    """An ISO 8601 date or time; UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an ISO date or time such as 2025-11-17 or 2025-11-17T12:00:00Z"
        ) from None


def add_secret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret",
        action="append",
        dest="secrets",
        metavar="whsec_…",
        help=f"the endpoint's secret, repeatable during a rotation (default: {SECRET_VARIABLE} of the environment)",
    )


def checked_secrets(given: Sequence[str] | None) -> list[str]:
    """The secrets given, or those of the environment, separated by spaces; CommandError for one that is none."""
    secrets = list(given or os.environ.get(SECRET_VARIABLE, "").split())
    try:
        for secret in secrets:
            signing.decode_secret(secret)
    except SecretError as error:
        raise CommandError(str(error)) from None
    return secrets


def find_user(login: str) -> User:
    """The person of a username or e-mail address, in any letter case."""
    try:
        return User.objects.get_by_natural_key(login)
    except User.DoesNotExist:
        raise CommandError(f"There is no user {login!r}: give a username or an e-mail address.") from None
    except User.MultipleObjectsReturned:
        raise CommandError(f"{login!r} is the username of one person and the e-mail address of another.") from None


def find_endpoint(id_: UUID) -> WebhookEndpoint:
    """An endpoint that has not been deleted, of whomever."""
    endpoint = WebhookEndpoint.objects.filter(pk=id_, deleted_at=None).select_related("owner").first()
    if endpoint is None:
        raise CommandError(f"There is no webhook endpoint {id_}.")
    return endpoint


def delivery_id(text: str) -> UUID:
    """A delivery's id, or the `webhook-id` its receiver saw (`msg_…`)."""
    try:
        return UUID(text.removeprefix("msg_"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a delivery's id nor a webhook-id (msg_…)") from None
