"""Rows the system keeps for itself; administrators may look."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from helpdesk.changes.admin import ReadOnlyAdmin
from notifications.models import EventStream, ReceivedWebhook, Statistic, Worker


class _SystemAdmin(ReadOnlyAdmin):
    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # not in the menu: nobody works with these

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return self.model._default_manager.order_by(*self.get_ordering(request))


@admin.register(ReceivedWebhook)
class ReceivedWebhookAdmin(_SystemAdmin):
    list_display = ("message_id", "event", "received_at")
    list_select_related = ("event",)
    search_fields = ("=message_id",)
    search_help_text = "The webhook-id (msg_…)"
    ordering = ("-event_id",)


@admin.register(EventStream)
class EventStreamAdmin(_SystemAdmin):
    list_display = ("last_position", "sent_position", "pruned_position")
    ordering = ("id",)


@admin.register(Worker)
class WorkerAdmin(_SystemAdmin):
    list_display = ("name", "version", "started_at", "beat_at", "swept_at", "in_flight", "concurrency")
    ordering = ("name",)


@admin.register(Statistic)
class StatisticAdmin(_SystemAdmin):
    list_display = ("metric", "label", "value")
    ordering = ("metric", "id")
