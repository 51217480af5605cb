"""The event log, and one's own notifications."""

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import Role
from helpdesk.changes.admin import FixedChoicesFilter, ReadOnlyAdmin, preformatted
from notifications import catalogue, reading
from notifications.admin.subjects import id_in, is_example, page_of, ticket_number_in
from notifications.models import Event, Notification
from tickets.models import Ticket

# What an agent has no page of in the admin.
_ADMINS_ONLY = {"user"}


class TypeFilter(FixedChoicesFilter):
    title = "type"
    parameter_name = "type"
    choices_known = [(type_, type_) for type_ in catalogue.TYPES]


class EntityFilter(FixedChoicesFilter):
    title = "entity"
    parameter_name = "entity"
    choices_known = [
        (name, name) for name in dict.fromkeys([*(row.entity for row in catalogue.ROWS), "webhook", "notification"])
    ]


class ActionFilter(FixedChoicesFilter):
    title = "action"
    parameter_name = "action"
    choices_known = [
        (name, name) for name in ("created", "updated", "deleted", "moved", "announced", "received", "test", "read")
    ]


class UnreadFilter(admin.SimpleListFilter):
    title = "read"
    parameter_name = "read"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "Not yet"), ("yes", "Read")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Notification]) -> QuerySet[Notification]:
        match self.value():
            case "no":
                return queryset.filter(read_at=None)
            case "yes":
                return queryset.exclude(read_at=None)
        return queryset


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """One's own."""

    list_display = ("message", "type", "about", "created_at", "is_read")
    list_filter = (UnreadFilter, TypeFilter)
    search_fields = ("message",)
    search_help_text = "Words of the message"
    fields = ("message", "type", "about", "created_at", "read_at")
    actions = ("mark_as_read",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return super().get_queryset(request).select_related("event", "recipient")

    @admin.display(description="about")
    def about(self, notification: Notification) -> SafeString | str:
        kind = notification.related_type
        if kind in _ADMINS_ONLY and notification.recipient.role != Role.ADMIN:
            return kind
        if is_example(notification):
            return f"{kind} of a test, which does not exist"
        url = page_of(kind, notification.related_id, notification.event.ticket_id)
        return format_html('<a href="{}">{}</a>', url, kind)

    @admin.display(description="read", boolean=True)
    def is_read(self, notification: Notification) -> bool:
        return notification.read_at is not None

    @admin.action(description="Mark selected as read")
    def mark_as_read(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        unread = Notification.objects.unread().filter(pk__in=queryset.values("pk"))
        ids = list(unread.values_list("pk", flat=True))
        reading.mark_read(caller(request), ids)
        messages.success(request, f"{len(ids)} marked as read.")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("position", "occurred_at", "entity", "action", "changed", "actor", "visibility")
    list_display_links = ("position", "occurred_at")
    list_filter = (EntityFilter, ActionFilter, "visibility")
    list_select_related = ("actor",)
    search_fields = ("entity_id",)
    search_help_text = "The id of an event or of what it is about, or a ticket number"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": ("id", "position", "occurred_at", "entity", "action", "about", "actor", "changes_text")}),
        ("Who may know", {"fields": ("visibility", "person_id", "previous_visibility", "previous_person_id")}),
        ("What is told", {"fields": ("staff_text", "customer_text", "origin", "announcement", "expansion_pending")}),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        id_, number = id_in(search_term), ticket_number_in(search_term)
        if id_ is not None:
            return queryset.filter(Q(pk=id_) | Q(entity_id=id_) | Q(ticket_id=id_)), False
        if number is not None:
            tickets = Ticket.objects.visible_to(caller(request)).filter(number=number)
            return queryset.filter(ticket_id__in=tickets.values("pk")), False
        return (queryset.none() if search_term.strip() else queryset), False

    @admin.display(description="changed")
    def changed(self, event: Event) -> str:
        return ", ".join(event.changes) or "–"

    @admin.display(description="about")
    def about(self, event: Event) -> SafeString | str:
        if event.entity == "notification":  # its person alone has a page of it
            return event.entity
        url = page_of(event.entity, event.entity_id, event.ticket_id)
        return format_html('<a href="{}">{} {}</a>', url, event.entity, event.entity_id)

    @admin.display(description="changes")
    def changes_text(self, event: Event) -> SafeString | str:
        return preformatted(json.dumps(event.changes, indent=2, ensure_ascii=False) if event.changes else "")

    @admin.display(description="to staff")
    def staff_text(self, event: Event) -> SafeString | str:
        return preformatted(_indented(event.payload_staff))

    @admin.display(description="to customers")
    def customer_text(self, event: Event) -> SafeString | str:
        return preformatted(_indented(event.payload_customer))


def _indented(payload: str | None) -> str:
    return json.dumps(json.loads(payload), indent=2, ensure_ascii=False) if payload else ""
