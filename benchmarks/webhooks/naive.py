"""The design everybody writes first: one Celery task for each delivery, rows by the ORM, prefork. For comparison only.

`celery -A benchmarks.webhooks.naive worker`, with BROKER_URL in the environment.
"""

import os
import time

import requests  # noqa: TID251 - what everybody does
from celery import Celery
from django.utils import timezone

app = Celery("naive", broker=os.environ["BROKER_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    # Django's connections are kept from task to task: as Celery comes, it closes them after each, and delivers 55/s.
    CELERY_DB_REUSE_MAX=1_000_000,  # read under this name, whatever the namespace of the other settings
)
session = requests.Session()
session.trust_env = False


@app.task
def deliver(delivery_id: str) -> None:
    from notifications.models import DeliveryState, WebhookAttempt, WebhookDelivery
    from notifications.payloads import encode, head_of
    from notifications.webhooks import signing

    delivery = WebhookDelivery.objects.select_related("endpoint", "notification__event").get(pk=delivery_id)
    event = delivery.notification.event
    head = encode(head_of(delivery.notification))
    body = f'{{"event":"notification.created","notification":{head},"data":{event.payload_staff}}}'.encode()
    timestamp = int(time.time())
    headers = {
        "Content-Type": "application/json",
        signing.ID_HEADER: delivery.message_id,
        signing.TIMESTAMP_HEADER: str(timestamp),
        signing.SIGNATURE_HEADER: signing.sign(delivery.endpoint.secrets(), delivery.message_id, timestamp, body),
    }
    began = time.perf_counter()
    response = session.post(delivery.endpoint.url, data=body, headers=headers, timeout=15)
    WebhookAttempt.objects.create(
        delivery=delivery,
        number=delivery.attempt_count + 1,
        succeeded=response.ok,
        status_code=response.status_code,
        total_ms=(time.perf_counter() - began) * 1000,
        response_body=response.text,
    )
    delivery.attempt_count += 1
    delivery.state = DeliveryState.DELIVERED if response.ok else DeliveryState.RETRYING
    delivery.delivered_at = timezone.now()
    delivery.next_attempt_at = None
    delivery.save()
