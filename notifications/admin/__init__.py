"""The event log, notifications, endpoints and deliveries in the admin: to be looked at, not to be edited.

Endpoints are added through the API, which shows their secret once; no page here shows a secret, not even encrypted.
"""

from notifications.admin import deliveries, endpoints, events, system

__all__ = ["deliveries", "endpoints", "events", "system"]
