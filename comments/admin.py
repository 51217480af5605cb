"""Comments in the admin. New ones are usually written on the ticket's page."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from comments.models import Comment, TicketClosed
from helpdesk.accounts.authentication import caller
from helpdesk.changes.admin import ChangesForm, VisibleAdmin, badge
from tickets.models import Status


class CommentForm(ChangesForm):
    class Meta:
        model = Comment
        fields = ("ticket", "parent", "content", "is_internal")

    def clean_ticket(self) -> Any:
        ticket = self.cleaned_data["ticket"]
        if ticket.status == Status.CLOSED:
            raise ValidationError(TicketClosed().messages)
        return ticket


@admin.register(Comment)
class CommentAdmin(VisibleAdmin):
    form = CommentForm
    list_display = ("excerpt", "ticket", "kind", "author", "created_at")
    list_filter = ("is_internal",)
    list_select_related = ("ticket", "author")
    search_fields = ("content", "ticket__title", "author__username", "author__name")
    search_help_text = "Words of the comment, the ticket's title, the author, or #number of the ticket"
    ordering = ("-created_at", "-id")
    autocomplete_fields = ("ticket",)
    raw_id_fields = ("parent",)

    def get_fields(self, request: HttpRequest, obj: Comment | None = None) -> Any:
        if obj is None:
            return ("ticket", "parent", "content", "is_internal")
        return ("ticket", "parent", "written_by", "content", "is_internal", "created_at", "updated_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Comment | None = None) -> Any:
        # Where it was said, and by whom, does not change.
        return ("ticket", "parent", "written_by", "created_at", "updated_at") if obj else ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Comment], search_term: str
    ) -> tuple[QuerySet[Comment], bool]:
        number = search_term.strip().removeprefix("#")
        if search_term.strip().startswith("#") and number.isascii() and number.isdigit() and len(number) < 18:
            return queryset.filter(ticket__number=int(number)), False
        return super().get_search_results(request, queryset, search_term)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except TicketClosed as error:  # between the check of the form and the writing of the comment
            messages.error(request, error.message)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Comment, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            obj.author = caller(request)
            obj.post()

    @admin.display(description="author")
    def written_by(self, comment: Comment) -> str:
        return str(comment.author or "the system")

    @admin.display(description="comment", ordering="content")
    def excerpt(self, comment: Comment) -> str:
        return Truncator(comment.content).chars(90)

    @admin.display(description="kind", ordering="is_internal")
    def kind(self, comment: Comment) -> SafeString:
        return badge("kind", "note", "Internal note") if comment.is_internal else badge("kind", "reply", "Reply")
