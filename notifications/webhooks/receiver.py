"""The internal receiver: takes a signed webhook of this application and passes it on to its person's sockets.

It trusts nothing but the signature, like any other receiver: what it gets may come from the worker next door or from
anyone on the internet.
"""

import json
import re
import time
from collections.abc import Mapping
from uuid import UUID

from django.db import IntegrityError, transaction

from notifications import bells
from notifications.models import Event, ReceivedWebhook, Visibility, WebhookDelivery
from notifications.payloads import encode
from notifications.webhooks import signing

_MESSAGE_ID = re.compile(r"msg_([0-9a-f]{32})")


class Refused(Exception):
    """The webhook is not taken. `status` is what HTTP answers, `code` is stable."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def receive(headers: Mapping[str, str], body: bytes) -> bool:
    """Take a webhook; True when it is new, False for a repetition. Raises Refused.

    An unknown id, a wrong signature and an old timestamp are refused alike (401), so that nobody learns which ids
    exist.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id = given.get(signing.ID_HEADER, "")
    match = _MESSAGE_ID.fullmatch(message_id)
    delivery = (
        WebhookDelivery.objects.select_related("endpoint", "notification__event")
        .filter(pk=UUID(match[1]), endpoint__deleted_at=None)
        .first()
        if match
        else None
    )
    try:
        secrets = delivery.endpoint.secrets() if delivery else [signing.generate_secret()]
        signing.verify(secrets, given, body, time.time())
    except signing.VerificationError as error:
        raise Refused(401, f"signature_{error.code}", error.message) from None
    if delivery is None:
        raise Refused(401, "signature_no_match", "The signature does not fit.")
    try:
        payload = json.loads(body)
    except ValueError:
        raise Refused(400, "malformed_json", "The body is not JSON.") from None
    return _pass_on(message_id, delivery, payload)


def _pass_on(message_id: str, delivery: WebhookDelivery, payload: dict) -> bool:
    subject = delivery.notification.event
    text = encode(payload)
    event = Event(
        entity="webhook",
        action="received",
        # Not the subject's own id: this event says nothing of who may see the subject.
        entity_id=delivery.endpoint_id,
        ticket_id=subject.ticket_id,
        visibility=Visibility.PERSON,
        person_id=delivery.endpoint.owner_id,
        payload_staff=text,
        payload_customer=text,
    )
    if ReceivedWebhook.objects.filter(pk=message_id).exists():
        return False
    try:
        with transaction.atomic():
            event.save(force_insert=True)
            ReceivedWebhook.objects.create(message_id=message_id, event=event)
            transaction.on_commit(bells.ring_publisher, robust=True)
    except IntegrityError:  # the same one came twice at once
        return False
    return True
