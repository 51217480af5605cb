"""What a ticket can be asked for together with what belongs to it: `GET /api/tickets/{id}?include=comments`.

Apps above this one add what they keep of tickets; this one need not know them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import User
from helpdesk.api.entities import EntitySerializer, audience_of
from helpdesk.api.pagination import envelope, page_of
from tickets.models import Ticket

# Rows of each, oldest first; `next` leads on in the list of its own.
LIMIT = 100


@dataclass(frozen=True)
class Include:
    """Something that belongs to tickets and has a list under `/api/tickets/{id}/{name}`."""

    rows: Callable[[User, Ticket], QuerySet]
    serializer: type[EntitySerializer]
    page_schema: type[serializers.Serializer]

    def first_page(self, name: str, request: Request, ticket: Ticket) -> dict[str, Any]:
        """What the list would answer with `limit=100`. One query."""
        orderings = {"created_at": "created_at"}
        page = page_of(self.rows(caller(request), ticket), orderings, "created_at", None, LIMIT)
        context = {"audience": audience_of(request.user)}
        url = request.build_absolute_uri(f"/api/tickets/{ticket.pk}/{name}?limit={LIMIT}")
        return envelope(self.serializer(page.rows, many=True, context=context).data, page, url)


_offered: dict[str, Include] = {}


def offer(name: str, include: Include) -> None:
    """Let clients ask for `name`. Call it where the app's API is imported."""
    _offered[name] = include


def schemas() -> dict[str, serializers.Serializer]:
    """The pages, for the API document."""
    return {name: _offered[name].page_schema(required=False) for name in sorted(_offered)}


def wanted(request: Request) -> list[str]:
    """The names in the query's `include`; ValidationError for one that nobody offers."""
    asked = [name for name in request.query_params.get("include", "").split(",") if name]
    if not set(asked) <= set(_offered):
        raise ValidationError({"include": [f"Choose from: {', '.join(sorted(_offered))}."]})
    return list(dict.fromkeys(asked))


def included(request: Request, ticket: Ticket, asked: list[str]) -> dict[str, Any]:
    return {name: _offered[name].first_page(name, request, ticket) for name in asked}
