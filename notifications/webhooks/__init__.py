"""Notifications sent to the endpoints of their recipients, as Standard Webhooks."""
