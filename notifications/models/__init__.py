from notifications.models.delivery import (
    UNDONE_STATES,
    DeliveryState,
    Priority,
    ReceivedWebhook,
    WebhookAttempt,
    WebhookDelivery,
)
from notifications.models.endpoint import BreakerState, EndpointState, WebhookEndpoint
from notifications.models.event import Event, EventStream, Visibility
from notifications.models.notification import Notification
from notifications.models.recovery import RecoveryState, WebhookRecovery
from notifications.models.worker import Statistic, Worker

__all__ = [
    "UNDONE_STATES",
    "BreakerState",
    "DeliveryState",
    "EndpointState",
    "Event",
    "EventStream",
    "Notification",
    "Priority",
    "ReceivedWebhook",
    "RecoveryState",
    "Statistic",
    "Visibility",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookRecovery",
    "Worker",
]
