"""Pages by keyset: a cursor says after which row to go on, so that page 1,000 costs what page 1 costs."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, F, Func, Lookup, Model, QuerySet, Value
from django.db.models.lookups import GreaterThan, LessThan
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.views import APIView

DEFAULT_LIMIT = 25
MAX_LIMIT = 100
PARAMETERS = ("limit", "cursor", "order")

Loaded = Callable[[QuerySet], QuerySet]


class CursorInvalid(ValidationError):
    def __init__(self) -> None:
        super().__init__({"cursor": ["This cursor is not valid. Start again without one."]})


@dataclass(frozen=True)
class Cursor:
    """A place in a list: the row it was made from, and on which side of that row the page lies."""

    order: str
    backward: bool
    value: Any
    id: UUID

    def encode(self) -> str:
        value = {"t": self.value.isoformat()} if isinstance(self.value, datetime) else self.value
        text = json.dumps([self.order, self.backward, value, str(self.id)], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """The opposite of `encode`; CursorInvalid for anything that it did not write."""
        try:
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            order, backward, value, id_ = json.loads(raw)
            if isinstance(value, dict):
                value = datetime.fromisoformat(value["t"]).astimezone(UTC)
            elif isinstance(value, int) and abs(value) >= 2**63:  # no database holds it
                raise ValueError(value)
            if not (isinstance(order, str) and isinstance(backward, bool) and isinstance(value, datetime | int | str)):
                raise ValueError(text)
            if isinstance(value, str):
                value.encode()
                if "\x00" in value:
                    raise ValueError(value)
            return cls(order, backward, value, UUID(id_))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, binascii.Error):
            raise CursorInvalid() from None


@dataclass(frozen=True)
class Page:
    rows: list[Any]
    next: Cursor | None
    previous: Cursor | None


class _Row(Func):
    """`(a, b)`, which SQL compares like the words of a dictionary: by `b` where `a` is equal."""

    template = "(%(expressions)s)"
    output_field = BooleanField()  # of no meaning; a row is only ever compared with a row


class Keyset:
    """A total order of a list: one field, then the id for rows that are equal in it.

    `name` is the order as the API calls it and ends up in the cursor; `ordering` is a field name, with `-` for
    descending.
    """

    def __init__(self, model: type[Model], name: str, ordering: str) -> None:
        self.name = name
        self.descending = ordering.startswith("-")
        self.field: Any = model._meta.get_field(ordering.removeprefix("-"))
        self.id: Any = model._meta.pk

    def takes(self, cursor: Cursor) -> bool:
        """Whether the cursor is of this order and its value of the kind that the order compares it with."""
        return cursor.order == self.name and type(cursor.value) is self._kind

    @property
    def _kind(self) -> type:
        name = getattr(self.field, "output_field", self.field).get_internal_type()
        return datetime if name == "DateTimeField" else int if name.endswith("IntegerField") else str

    def page(self, queryset: QuerySet, cursor: Cursor | None, limit: int, loaded: Loaded | None = None) -> Page:
        """At most `limit` rows after (or before) the cursor, in the list's order. One query.

        With `loaded`, which adds the relations, they are joined with the page's rows only: a database that finds more
        rows than a page holds, to sort them, would join all of them otherwise.
        """
        backward = cursor is not None and cursor.backward
        descending = self.descending != backward
        if cursor is not None:
            queryset = queryset.filter(self._beyond(cursor, descending))
        sign = "-" if descending else ""
        order = f"{sign}{self.field.name}", f"{sign}pk"
        found = queryset.order_by(*order)[: limit + 1]
        if loaded is not None:
            found = loaded(queryset.model._default_manager.filter(pk__in=found.values("pk"))).order_by(*order)
        rows = list(found)
        more, rows = len(rows) > limit, rows[:limit]
        if backward:
            rows.reverse()
        if not rows:
            return Page([], None, None)
        return Page(
            rows,
            next=self._cursor(rows[-1], backward=False) if more or backward else None,
            previous=self._cursor(rows[0], backward=True) if (more if backward else cursor) else None,
        )

    def _beyond(self, cursor: Cursor, descending: bool) -> Lookup:
        # An index on (field, id) is entered at the very row, however many rows are equal in the field.
        place = _Row(F(self.field.name), F(self.id.name))
        cursor_place = _Row(Value(cursor.value, self.field), Value(cursor.id, self.id))
        return LessThan(place, cursor_place) if descending else GreaterThan(place, cursor_place)

    def _cursor(self, row: Model, *, backward: bool) -> Cursor:
        return Cursor(self.name, backward, getattr(row, self.field.attname), row.pk)


class KeysetPagination(BasePagination):
    """`{"results": […], "next": "<url or null>", "previous": "<url or null>"}`, one query a page at any depth.

    A view says in `orderings` by which names a client may order, {name: field, with `-` for descending}, and in
    `default_order` which of them it starts with. `limit` is 25 unless given and 100 at most. What a view's `loaded`
    adds to its query set is added to the page's rows only.
    """

    default_orderings: dict[str, str] = {"created_at": "created_at", "-created_at": "-created_at"}

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self.url = request.build_absolute_uri()
        parameters = request.query_params
        self.page = page_of(
            queryset,
            getattr(view, "orderings", self.default_orderings),
            order=parameters.get("order") or str(getattr(view, "default_order", "-created_at")),
            cursor=parameters.get("cursor"),
            limit=_limit(parameters.get("limit")),
            loaded=getattr(view, "loaded", None),
        )
        return self.page.rows

    def get_paginated_response(self, data: Any) -> Response:
        return Response(envelope(data, self.page, self.url))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {
                "results": schema,
                "next": {**link, "description": "The following page; null on the last one."},
                "previous": {**link, "description": "The preceding page; null on the first one."},
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        orderings = getattr(view, "orderings", self.default_orderings)
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where to go on. Take it from `next` or `previous`; it is valid for one order only.",
                "schema": {"type": "string"},
            },
            {
                "name": "limit",
                "in": "query",
                "required": False,
                "description": "How many results a page holds.",
                "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
            },
            {
                "name": "order",
                "in": "query",
                "required": False,
                "description": "What to order by; `-` in front means descending.",
                "schema": {
                    "type": "string",
                    "enum": list(orderings),
                    "default": getattr(view, "default_order", "-created_at"),
                },
            },
        ]


class PageSerializer(serializers.Serializer):
    """How a page looks that is part of another answer; for the API document, with `results` added."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


def page_of(
    queryset: QuerySet,
    orderings: Mapping[str, str],
    order: str,
    cursor: str | None,
    limit: int,
    loaded: Loaded | None = None,
) -> Page:
    """A page of a list. ValidationError for an order that is not among the `orderings` and for a bad cursor."""
    if order not in orderings:
        raise ValidationError({"order": [f"Choose one of: {', '.join(orderings)}."]})
    place = Cursor.decode(cursor) if cursor else None
    keyset = Keyset(queryset.model, order, orderings[order])
    if place is not None and not keyset.takes(place):
        raise CursorInvalid()
    return keyset.page(queryset, place, limit, loaded)


def envelope(data: Any, page: Page, url: str) -> dict[str, Any]:
    """The page as it is answered; `url` is the list's, without or with a cursor."""

    def link(cursor: Cursor | None) -> str | None:
        return replace_query_param(url, "cursor", cursor.encode()) if cursor else None

    previous = link(page.previous)
    if not page.rows and "cursor=" in url:
        previous = remove_query_param(url, "cursor")  # what lay beyond is gone: back to the start
    return {"results": data, "next": link(page.next), "previous": previous}


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_LIMIT):
        raise ValidationError({"limit": [f"A number from 1 to {MAX_LIMIT}."]})
    return int(text)
