"""The event log, notifications and deliveries in the admin, to be looked at; endpoints besides, to be managed.

A secret is shown by the answer to the request that made it, and by no page after that, not even encrypted.
"""

from notifications.admin import deliveries, endpoints, events, recoveries, system

__all__ = ["deliveries", "endpoints", "events", "recoveries", "system"]
