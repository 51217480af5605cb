from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management import CommandError

from helpdesk.accounts.models import User
from notifications import catalogue
from notifications.management.arguments import find_endpoint, find_user
from notifications.management.base import DeliveriesCommand
from notifications.management.output import printable, write_fields, write_json
from notifications.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import trial


class Command(DeliveriesCommand):
    help = "Send a real test to somebody's webhook and show what came back. Fails when it was not delivered."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("user", help="a username or an e-mail address")
        parser.add_argument("--endpoint", type=UUID, metavar="ID", help="default: the one behind /api/users/me/webhook")
        parser.add_argument(
            "--type",
            default=catalogue.WEBHOOK_TEST,
            help="the notification type; another than webhook_test sends that type's example, marked as a test",
        )

    def handle(self, *args: Any, user: str, endpoint: UUID | None, type: str, as_json: bool, **options: Any) -> None:
        if type not in catalogue.TYPES:
            raise CommandError(f"There is no notification type {type!r}. All types: {', '.join(catalogue.TYPES)}.")
        target = _endpoint_of(find_user(user), endpoint)
        try:
            attempt = trial.send_test(target, type)
        except trial.NotSent as error:
            raise CommandError(f"Nothing was sent: {error}") from None
        delivery = WebhookDelivery.objects.get(pk=attempt.delivery_id)
        found = _shown(target, delivery, attempt)
        if as_json:
            write_json(self.stdout, found)
        else:
            self._write(found)
        if not attempt.succeeded:
            raise CommandError(f"Not delivered: {printable(attempt.diagnosis)}.{_what_next(delivery)}")

    def _write(self, found: dict[str, Any]) -> None:
        answer = ("response_head", "response_body")
        write_fields(self.stdout, {name: value for name, value in found.items() if name not in answer})
        for text in filter(None, (found[name] for name in answer)):
            self.stdout.write("\n" + printable(text.replace("\r\n", "\n"), lines=True))


def _endpoint_of(owner: User, id_: UUID | None) -> WebhookEndpoint:
    """The endpoint named, else the primary one, else the only one."""
    if id_ is not None:
        endpoint = find_endpoint(id_)
        if endpoint.owner_id != owner.pk:
            raise CommandError(f"The endpoint {id_} belongs to {endpoint.owner.username}, not to {owner.username}.")
        return endpoint
    endpoints = list(WebhookEndpoint.objects.filter(owner=owner, deleted_at=None).select_related("owner"))
    if not endpoints:
        raise CommandError(f"{owner.username} has no webhook URL: PUT /api/users/me/webhook sets one.")
    primary = [endpoint for endpoint in endpoints if endpoint.is_primary]
    if not primary and len(endpoints) > 1:
        choices = ", ".join(f"{endpoint.pk} ({printable(endpoint.url)})" for endpoint in endpoints)
        raise CommandError(f"{owner.username} has several endpoints; name one by --endpoint: {choices}")
    return (primary or endpoints)[0]


def _shown(endpoint: WebhookEndpoint, delivery: WebhookDelivery, attempt: WebhookAttempt) -> dict[str, Any]:
    return {
        "webhook_id": delivery.message_id,
        "url": endpoint.url,
        "endpoint": endpoint.pk,
        "succeeded": attempt.succeeded,
        "status": attempt.status_code,
        "diagnosis": attempt.diagnosis,
        "error_code": attempt.error_code,
        "address": attempt.address,
        "dns_ms": attempt.dns_ms,
        "connect_ms": attempt.connect_ms,
        "tls_ms": attempt.tls_ms,
        "first_byte_ms": attempt.first_byte_ms,
        "total_ms": attempt.total_ms,
        "response_head": attempt.response_head,
        "response_body": attempt.response_body,
    }


def _what_next(delivery: WebhookDelivery) -> str:
    if delivery.next_attempt_at is None:
        return f" The delivery is {delivery.state}."
    return f" It is tried again at {delivery.next_attempt_at:%H:%M:%S} UTC, as every webhook is."
