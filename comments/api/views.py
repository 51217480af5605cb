from typing import Any
from uuid import UUID

from django.db.models import QuerySet, prefetch_related_objects
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from comments.api.serializers import CommentPageSerializer, CommentSerializer
from comments.models import Comment, TicketClosed
from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import User
from helpdesk.api.entities import CUSTOMER, audience_of
from helpdesk.api.errors import Conflict
from helpdesk.api.filters import FlagFilter
from helpdesk.api.views import EntityDetail, EntityList, EntityView
from helpdesk.changes.unit import unit
from tickets.api import includes
from tickets.api.includes import Include
from tickets.api.views import TicketPart
from tickets.models import Status, Ticket

# See Comment.post().
REOPENED_BY_REQUESTER = (Status.PENDING, Status.SOLVED)


class CommentFilter(filters.FilterSet):
    ticket_id = filters.UUIDFilter()
    author_id = filters.UUIDFilter()
    is_internal = FlagFilter(help_text="Agents and administrators.")

    class Meta:
        model = Comment
        fields: list[str] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if audience_of(getattr(self.request, "user", None)) == CUSTOMER:
            del self.filters["is_internal"]


class _Posting(EntityView):
    """Writing a comment, under its ticket's address or with `ticket_id` in the body."""

    def posted(self, ticket_id: UUID | None = None) -> Response:
        author = caller(self.request)
        comment = Comment(author=author)
        serializer = CommentSerializer(comment, data=self.request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        fields = serializer.validated_data
        if ticket_id and fields.get("ticket_id", ticket_id) != ticket_id:
            raise ValidationError({"ticket_id": ["This is not the ticket of the address."]})
        ticket_id = ticket_id or fields.get("ticket_id")
        if ticket_id is None:
            raise ValidationError({"ticket_id": ["This field is required."]})
        comment.content, comment.is_internal = fields["content"], fields.get("is_internal", False)
        with unit():
            comment.ticket, comment.parent = _place(author, ticket_id, fields.get("parent_id"))
            serializer.check(comment)
            try:
                comment.post()
            except TicketClosed as error:
                raise Conflict(error.message, code="ticket_closed") from None
        return Response(serializer.data, status=201)


def _place(user: User, ticket_id: UUID, parent_id: UUID | None) -> tuple[Ticket, Comment | None]:
    """The ticket and the comment replied to, as far as the person sees them, the ticket locked."""
    parent = None
    if parent_id is not None:
        # A visible comment's ticket is visible too, so a reply takes one query for both.
        parents = Comment.objects.visible_to(user).filter(pk=parent_id, ticket_id=ticket_id)
        people = ("author", "ticket__requester", "ticket__assignee")
        parent = parents.select_related(*people).select_for_update(of=("ticket",)).first()
    if parent is not None:
        ticket = parent.ticket
    else:
        tickets = Ticket.objects.visible_to(user).select_related("requester", "assignee")
        ticket = get_object_or_404(tickets.select_for_update(of=("self",)), pk=ticket_id)
        if parent_id is not None:
            raise ValidationError({"parent_id": ["There is no such comment on this ticket."]})
    if ticket.requester_id == user.pk and ticket.status in REOPENED_BY_REQUESTER:
        # The ticket will change too, and its tags are part of what is told of that, to staff and to the requester.
        prefetch_related_objects([ticket], "ticket_tags")
    return ticket, parent


class CommentList(_Posting, EntityList):
    """Comments of every ticket the caller sees, newest first."""

    model = Comment
    serializer_class = CommentSerializer
    filterset_class = CommentFilter

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("author")

    @extend_schema(responses={201: CommentSerializer})
    def post(self, request: Request) -> Response:
        """Comment on the ticket `ticket_id`."""
        return self.posted()


class TicketComments(_Posting, TicketPart):
    """A ticket's comments, oldest first. Internal notes are for agents and administrators."""

    model = Comment
    serializer_class = CommentSerializer

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("author")

    @extend_schema(operation_id="tickets_comments_create", responses={201: CommentSerializer})
    def post(self, request: Request, id: UUID) -> Response:
        """Comment on the ticket, or with `parent_id` reply to one of its comments.

        A requester's comment reopens a pending or solved ticket; a closed one takes none (409, `ticket_closed`).
        """
        return self.posted(id)


class CommentDetail(EntityDetail):
    """One comment. Customers may change and delete their own."""

    model = Comment
    serializer_class = CommentSerializer
    locked_rows = ("self", "ticket")

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("author", "ticket", "parent")

    def may_change(self, comment: Comment) -> bool:
        return super().may_change(comment) or comment.author_id == self.request.user.pk


includes.offer(
    "comments",
    Include(
        rows=lambda user, ticket: Comment.objects.visible_to(user).filter(ticket=ticket).select_related("author"),
        serializer=CommentSerializer,
        page_schema=CommentPageSerializer,
    ),
)
