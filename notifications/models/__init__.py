from notifications.models.delivery import (
    DeliveryState,
    ReceivedWebhook,
    WebhookAttempt,
    WebhookDelivery,
    WorkerHeartbeat,
)
from notifications.models.endpoint import BreakerState, EndpointState, WebhookEndpoint
from notifications.models.event import Event, EventStream, Visibility
from notifications.models.notification import Notification

__all__ = [
    "BreakerState",
    "DeliveryState",
    "EndpointState",
    "Event",
    "EventStream",
    "Notification",
    "ReceivedWebhook",
    "Visibility",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerHeartbeat",
]
