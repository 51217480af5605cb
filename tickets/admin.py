"""Tickets and their attachments in the admin. The working page of a ticket is put together in helpdesk.backoffice."""

import logging
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import STAFF_ROLES, User
from helpdesk.changes.admin import ChangesForm, ReadOnlyAdmin, VisibleAdmin, badge
from helpdesk.changes.unit import unit
from tickets.files import clean_filename, sniffed_type
from tickets.models import OPEN_STATUSES, Attachment, Status, Ticket, TicketTag
from tickets.search import matching

logger = logging.getLogger(__name__)


class TicketForm(ChangesForm):
    tags = forms.CharField(
        required=False, max_length=1200, help_text="Separated by commas.", widget=AdminTextInputWidget
    )

    class Meta:
        model = Ticket
        fields = ("title", "description", "status", "priority", "requester", "assignee")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["tags"] = ", ".join(self.instance.tags)
        # Whoever is on the ticket already stays possible, also when deactivated since.
        active = Q(is_active=True)
        for name, condition in (("requester", active), ("assignee", active & Q(role__in=STAFF_ROLES))):
            if name in self.fields:
                present = Q(pk=getattr(self.instance, f"{name}_id"))
                field: Any = self.fields[name]
                field.queryset = User.objects.filter(condition | present)

    def clean_tags(self) -> list[str]:
        try:
            return TicketTag.normalized(name for name in self.cleaned_data["tags"].split(",") if name.strip())
        except ValidationError as error:
            raise ValidationError(error.messages) from None


class AssignedFilter(admin.SimpleListFilter):
    title = "assignee"
    parameter_name = "assigned"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("me", "Me"), ("nobody", "Nobody")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> QuerySet[Ticket]:
        match self.value():
            case "me":
                return queryset.filter(assignee=caller(request))
            case "nobody":
                return queryset.filter(assignee=None)
        return queryset


class OpenFilter(admin.SimpleListFilter):
    title = "work"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Still to be done"), ("no", "Solved or closed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> QuerySet[Ticket]:
        match self.value():
            case "yes":
                return queryset.filter(status__in=OPEN_STATUSES)
            case "no":
                return queryset.exclude(status__in=OPEN_STATUSES)
        return queryset


class TagFilter(admin.SimpleListFilter):
    """Shown while it is in use: a click on a tag in the list turns it on."""

    title = "tag"
    parameter_name = "tag"

    def __init__(self, request: HttpRequest, params: dict, model: Any, model_admin: Any) -> None:
        self._wanted = (params.get(self.parameter_name) or [""])[-1]
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(self._wanted, self._wanted)] if self._wanted else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> QuerySet[Ticket]:
        return queryset.filter(ticket_tags__name=self.value()) if self.value() else queryset


@admin.register(Ticket)
class TicketAdmin(VisibleAdmin):
    form = TicketForm
    list_display = (
        "number_link",
        "subject",
        "status_badge",
        "priority_badge",
        "requester",
        "assignee",
        "tag_list",
        "updated_at",
    )
    list_display_links = ("number_link", "subject")
    list_filter = (OpenFilter, AssignedFilter, "status", "priority", TagFilter)
    search_fields = ("title", "description")  # named for the search box; get_search_results() searches
    search_help_text = "Words of the title or the description, or a ticket number"
    autocomplete_fields = ("requester", "assignee")
    readonly_fields = ("created_at", "updated_at", "source", "external_id")
    fieldsets = (
        (None, {"fields": ("status", "priority", "assignee", "requester", "tags")}),
        ("Title and description", {"fields": ("title", "description"), "classes": ("collapse",)}),
        (
            "Dates and origin",
            {"fields": ("created_at", "updated_at", "source", "external_id"), "classes": ("collapse",)},
        ),
    )
    add_fieldsets = (
        (None, {"fields": ("title", "description", "requester")}),
        ("What happens with it", {"fields": ("status", "priority", "assignee", "tags")}),
    )
    actions = ("assign_to_me",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Ticket]:
        tickets: Any = super().get_queryset(request)
        return tickets.with_people()

    def get_fieldsets(self, request: HttpRequest, obj: Ticket | None = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Ticket], search_term: str
    ) -> tuple[QuerySet[Ticket], bool]:
        return matching(queryset, search_term) if search_term.strip() else queryset, False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        form.instance.set_tags(form.cleaned_data["tags"])

    @admin.display(description="no.", ordering="number")
    def number_link(self, ticket: Ticket) -> str:
        return f"#{ticket.number}"

    @admin.display(description="title", ordering="title")
    def subject(self, ticket: Ticket) -> str:
        return Truncator(ticket.title).chars(80)

    @admin.display(description="status", ordering="status")
    def status_badge(self, ticket: Ticket) -> SafeString:
        return badge("status", ticket.status, ticket.get_status_display())

    @admin.display(description="priority", ordering="priority")
    def priority_badge(self, ticket: Ticket) -> SafeString:
        return badge("priority", ticket.priority, ticket.get_priority_display())

    @admin.display(description="tags")
    def tag_list(self, ticket: Ticket) -> SafeString:
        links = ((urlencode({"tag": tag}), tag) for tag in ticket.tags)
        return format_html_join(" ", '<a class="tag" href="?{}">{}</a>', links)

    @admin.action(description="Assign selected tickets to me", permissions=["change"])
    def assign_to_me(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> None:
        count = 0
        with unit():
            for ticket in queryset.exclude(assignee=caller(request)).select_related("requester"):
                ticket.assignee = caller(request)
                ticket.save(update_fields=["assignee"])
                count += 1
        messages.success(request, f"{count} {'ticket is' if count == 1 else 'tickets are'} now assigned to you.")


class AttachmentForm(ChangesForm):
    """A new attachment: what the file is, is read from its first bytes and not believed from its name."""

    class Meta:
        model = Attachment
        fields = ("ticket", "file", "filename", "is_internal")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "filename" in self.fields and self.instance._state.adding:
            self.fields["filename"].required = False
            self.fields["filename"].help_text = "Empty: the name of the file."

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        self.instance.content_type = sniffed_type(file)
        self.instance.size = file.size
        return file

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.instance._state.adding:
            file = self.cleaned_data.get("file")
            if file:
                self.instance.filename = clean_filename(self.cleaned_data.get("filename") or file.name)
                self.cleaned_data["filename"] = self.instance.filename
        return cleaned


def attach(attachment: Attachment) -> None:
    """Save a new attachment by the rules of the API, the ticket's row locked.

    Raises ValidationError for a closed ticket, one with too many attachments, or when the storage does not take the
    file; then nothing of it is left behind.
    """
    try:
        with unit():
            ticket = Ticket.objects.select_for_update().get(pk=attachment.ticket_id)
            if ticket.status == Status.CLOSED:
                raise ValidationError("This ticket is closed. Please open a new one.", code="ticket_closed")
            if ticket.attachments.filter(deleted_at=None).count() >= settings.MAX_ATTACHMENTS_PER_TICKET:
                raise ValidationError(f"A ticket has at most {settings.MAX_ATTACHMENTS_PER_TICKET} attachments.")
            attachment.ticket = ticket
            attachment.save()
    except BaseException as error:
        file: Any = attachment.file
        if file._committed:
            file.storage.delete(file.name)
        if isinstance(error, OSError):
            logger.error("An attachment could not be stored: %s", error)
            raise ValidationError("The file could not be stored. Please try again.") from error
        raise


@admin.register(Attachment)
class AttachmentAdmin(VisibleAdmin):
    form = AttachmentForm
    list_display = ("filename", "ticket", "kind", "size_text", "is_internal", "uploaded_by", "created_at", "download")
    list_filter = ("is_internal",)
    list_select_related = ("ticket", "uploaded_by")
    search_fields = ("filename",)
    search_help_text = "File name"
    ordering = ("-id",)
    autocomplete_fields = ("ticket",)
    add_fields = ("ticket", "file", "filename", "is_internal")
    change_fields = ("filename", "is_internal", "ticket", "kind", "size_text", "uploader", "created_at", "download")

    def get_fields(self, request: HttpRequest, obj: Attachment | None = None) -> Any:
        return self.change_fields if obj else self.add_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Attachment | None = None) -> Any:
        # The bytes of an attachment never change, nor does the ticket they belong to.
        return self.change_fields[2:] if obj else ()

    def save_model(self, request: HttpRequest, obj: Attachment, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            obj.uploaded_by = caller(request)
            attach(obj)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(request.get_full_path())

    @admin.display(description="uploaded by")
    def uploader(self, attachment: Attachment) -> str:
        return str(attachment.uploaded_by or "the system")

    @admin.display(description="type", ordering="content_type")
    def kind(self, attachment: Attachment) -> str:
        return attachment.content_type.partition(";")[0]

    @admin.display(description="size", ordering="size")
    def size_text(self, attachment: Attachment) -> str:
        return filesizeformat(attachment.size)

    @admin.display(description="download")
    def download(self, attachment: Attachment) -> SafeString:
        return format_html('<a href="{}">Download</a>', download_url(attachment))


def download_url(attachment: Attachment) -> str:
    """The authorised view that serves the bytes; it asks for the rights again."""
    return f"/api/attachments/{attachment.pk}/download"


@admin.register(TicketTag)
class TicketTagAdmin(ReadOnlyAdmin):
    """To find tickets by their tags. Tags are changed on the ticket."""

    list_display = ("name", "ticket")
    list_select_related = ("ticket",)
    search_fields = ("name",)
    search_help_text = "Tag"
    ordering = ("name", "id")
    list_display_links = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[TicketTag]:
        visible = TicketTag.objects.filter(ticket__deleted_at=None)
        return visible.order_by(*self.ordering)
