from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from helpdesk.accounts.authentication import caller
from helpdesk.api.errors import Forbidden
from helpdesk.api.filters import refuse_unknown_parameters
from helpdesk.api.views import EntityDetail, EntityList
from helpdesk.changes.unit import unit
from tickets.api import includes
from tickets.api.filters import TicketFilter
from tickets.api.serializers import TicketSerializer
from tickets.models import Status, Ticket


class TicketList(EntityList):
    """Tickets: agents and administrators see every one, customers their own."""

    model = Ticket
    serializer_class = TicketSerializer
    filterset_class = TicketFilter
    orderings = {
        **{name: name for field in ("created_at", "updated_at", "number") for name in (field, f"-{field}")},
        "priority": "priority_rank",
        "-priority": "-priority_rank",
    }
    default_order = "-created_at"

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.with_people()  # type: ignore[attr-defined]

    @extend_schema(responses={201: TicketSerializer})
    def post(self, request: Request) -> Response:
        """Open a ticket.

        The requester is whoever opens it; agents may name another and set everything else. Customers choose
        title, description and priority.
        """
        serializer = self.get_serializer(Ticket(requester=caller(request)), data=request.data)
        serializer.is_valid(raise_exception=True)
        with unit():
            serializer.save()
        return Response(serializer.data, status=201)


class TicketWithIncludesSerializer(TicketSerializer):
    """A ticket with what was asked for by `include`; for the API document."""

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), **includes.schemas()}


class TicketPart(EntityList):
    """A list of what belongs to one ticket, oldest first; 404 where the caller does not see the ticket."""

    default_order = "created_at"

    def get_queryset(self) -> QuerySet:
        parts = super().get_queryset()
        if "id" not in self.kwargs:  # the API document is being written
            return parts
        get_object_or_404(Ticket.objects.visible_to(caller(self.request)).only("pk"), pk=self.kwargs["id"])
        return parts.filter(ticket_id=self.kwargs["id"])


class TicketDetail(EntityDetail):
    """One ticket."""

    model = Ticket
    serializer_class = TicketSerializer

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.with_people()  # type: ignore[attr-defined]

    def may_change(self, ticket: Ticket) -> bool:
        if caller(self.request).is_agent_or_admin:
            return True
        if ticket.status != Status.NEW:
            raise Forbidden("Someone is working on this ticket already. Write a comment instead of changing it.")
        return True

    def may_delete(self, ticket: Ticket) -> bool:
        return caller(self.request).is_agent_or_admin

    @extend_schema(
        responses=TicketWithIncludesSerializer,
        parameters=[
            OpenApiParameter(
                "include",
                str,
                description="`comments`, `attachments` or both, separated by a comma: the first page of each.",
            )
        ],
    )
    def get(self, request: Request, id: UUID) -> Response:
        """The ticket, and with `include` its conversation: the first 100 comments or attachments, oldest first."""
        refuse_unknown_parameters(request, {"include"})
        asked = includes.wanted(request)
        ticket = self.found(self.get_queryset())
        data: dict[str, Any] = self.get_serializer(ticket).data
        return Response({**data, **includes.included(request, ticket, asked)})

    @extend_schema(responses=TicketSerializer)
    def patch(self, request: Request, id: UUID) -> Response:
        """Change a ticket. Customers may correct title and description while it is new; then they write comments."""
        return super().patch(request, id)
