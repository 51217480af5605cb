"""The page staff work on: a ticket with its conversation, an answer, its history and the webhooks it caused."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from comments.models import Comment
from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import User
from helpdesk.backoffice import conversation, history
from helpdesk.changes.admin import LinesField, does_not_exist
from helpdesk.changes.identifiers import uuid7
from notifications.admin.subjects import id_in
from notifications.models import WebhookDelivery
from tickets.admin import AttachmentForm, TicketAdmin, attach
from tickets.models import Attachment, Status, Ticket

MAX_DELIVERIES = 50


class OnceForm(forms.ModelForm):
    """A form that makes one object however often it is sent: by a double click, a reload, an impatient proxy.

    The page carries the id of what is going to be made. Something else sent under an id that is taken (the page was
    come back to and the text changed, say) gets an id of its own.
    """

    new_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)
    same: tuple[str, ...]
    """The fields in which two sendings of one page are equal."""

    @abstractmethod
    def write(self) -> None:
        """Write the object. IntegrityError when its id is taken."""

    def write_once(self) -> Any:
        """Write the object, or find the one that was written from this very page before."""
        new_id = self.cleaned_data["new_id"]
        existing = self._find(new_id)
        if existing is None:
            self.instance.pk = new_id
            try:
                self.write()
            except IntegrityError:
                # The other click was quicker, and had not committed when we looked.
                existing = self._find(new_id)
                if existing is None or not self._is_same(existing):
                    raise ValidationError("This page was sent twice at the same time. Please send it again.") from None
                return existing
        elif self._is_same(existing):
            return existing
        else:
            self.write()
        return self.instance

    def _find(self, id_: UUID) -> Any | None:
        return self._meta.model._base_manager.filter(pk=id_).first()

    def _is_same(self, existing: Any) -> bool:
        return all(getattr(existing, name) == getattr(self.instance, name) for name in self.same)


class AnswerForm(OnceForm):
    is_internal = forms.TypedChoiceField(
        label="Kind",
        choices=(("False", "Reply to the requester"), ("True", "Internal note")),
        coerce=lambda value: value == "True",
        widget=forms.RadioSelect,
    )
    same = ("ticket_id", "author_id", "content", "is_internal")

    class Meta:
        model = Comment
        fields = ("content", "is_internal", "parent")
        labels = {"content": "Text"}
        field_classes = {"content": LinesField}
        widgets = {"parent": forms.HiddenInput, "content": forms.Textarea(attrs={"rows": 6})}

    def __init__(self, *args: Any, comments: QuerySet[Comment], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parent: Any = self.fields["parent"]
        parent.queryset = comments

    def write(self) -> None:
        self.instance.post()


class UploadForm(OnceForm, AttachmentForm):
    same = ("ticket_id", "uploaded_by_id", "filename", "size")

    class Meta:
        model = Attachment
        fields = ("file", "is_internal")

    def write(self) -> None:
        attach(self.instance)


class TicketPage(TicketAdmin):
    change_form_template = "backoffice/ticket.html"

    def get_urls(self) -> list:
        answer, upload = self.admin_site.admin_view(self.answer_view), self.admin_site.admin_view(self.upload_view)
        return [
            path("<path:object_id>/answer/", answer, name="tickets_ticket_answer"),
            path("<path:object_id>/upload/", upload, name="tickets_ticket_upload"),
            *super().get_urls(),
        ]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Ticket | None = None,
    ) -> HttpResponse:
        if obj is not None:
            context.update(self._page(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _page(self, request: HttpRequest, ticket: Ticket) -> dict[str, Any]:
        """What the page shows besides the ticket's fields."""
        user = caller(request)
        page: dict[str, Any] = {
            "conversation": conversation.of(ticket, user),
            "history": history.of_ticket(ticket, user),
            "closed": ticket.status == Status.CLOSED,
            "show_save_and_add_another": False,
        }
        if user.has_perm("comments.add_comment"):
            comments = _comments(ticket, user)
            asked = id_in(request.GET.get("reply_to", ""))
            parent = comments.select_related("author").filter(pk=asked).first() if asked else None
            new = Comment(ticket=ticket, author=user, parent=parent, is_internal=bool(parent and parent.is_internal))
            page |= {"parent": parent, "answer_form": AnswerForm(instance=new, comments=comments)}
        if user.has_perm("tickets.add_attachment"):
            page["upload_form"] = UploadForm(instance=Attachment(ticket=ticket), prefix="upload")
        if user.has_perm("notifications.view_webhookdelivery"):
            page["deliveries"] = (
                WebhookDelivery.objects.visible_to(user)
                .filter(notification__event__ticket_id=ticket.pk)
                .select_related("endpoint__owner", "notification")
                .order_by("-id")[:MAX_DELIVERIES]
            )
        return page

    def answer_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Post a reply or an internal note as whoever is signed in."""

        def form_for(ticket: Ticket) -> AnswerForm:
            new = Comment(ticket=ticket, author=caller(request))
            return AnswerForm(request.POST, instance=new, comments=_comments(ticket, caller(request)))

        return self._write(request, object_id, "comments.add_comment", form_for, "comment")

    def upload_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Attach a file to the ticket."""

        def form_for(ticket: Ticket) -> UploadForm:
            new = Attachment(ticket=ticket, uploaded_by=caller(request))
            return UploadForm(request.POST, request.FILES, instance=new, prefix="upload")

        return self._write(request, object_id, "tickets.add_attachment", form_for, "attachment")

    def _write(
        self,
        request: HttpRequest,
        object_id: str,
        permission: str,
        form_for: Callable[[Ticket], OnceForm],
        kind: str,
    ) -> HttpResponse:
        if not (self.has_view_permission(request) and request.user.has_perm(permission)):
            raise PermissionDenied
        ticket = self.get_object(request, unquote(object_id))
        if ticket is None:
            return does_not_exist(request, Ticket, object_id)
        page = reverse("admin:tickets_ticket_change", args=[ticket.pk])
        if request.method != "POST":
            return HttpResponseRedirect(page)
        form, status = form_for(ticket), 400
        if form.is_valid():
            try:
                written = form.write_once()
            except ValidationError as error:  # the ticket was closed meanwhile, the storage is full, …
                form.add_error(None, error)
                status = 409
            else:
                messages.success(request, _DONE[kind, written.is_internal])
                return HttpResponseRedirect(f"{page}#{kind}-{written.pk}")
        # What was written is not lost: the form is shown again with what is wrong.
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(ticket),
            "ticket": ticket,
            "form": form,
            "is_answer": kind == "comment",
        }
        return TemplateResponse(request, "backoffice/again.html", context, status=status)


_DONE = {
    ("comment", False): "Your reply was sent.",
    ("comment", True): "Your internal note was added.",
    ("attachment", False): "The file was attached.",
    ("attachment", True): "The file was attached for staff only.",
}


def _comments(ticket: Ticket, user: User) -> QuerySet[Comment]:
    """What an answer may refer to."""
    return Comment.objects.visible_to(user).filter(ticket=ticket)
