"""Views of entities. `visible_to` is the only way to an object; what changes one holds its row from check to commit."""

from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from helpdesk.api.entities import STAFF, audience_of
from helpdesk.api.errors import Forbidden
from helpdesk.api.filters import StrictFilterBackend
from helpdesk.api.pagination import KeysetPagination
from helpdesk.changes.unit import unit


class EntityView(GenericAPIView):
    """What the views of an entity share. `model` has a manager with `visible_to`."""

    model: type[Model]
    filter_backends = [StrictFilterBackend]
    pagination_class = KeysetPagination

    def get_queryset(self) -> QuerySet:
        """What the caller may see, with everything its JSON needs."""
        if getattr(self, "swagger_fake_view", False):
            return self.model._default_manager.none()
        return self.loaded(self.model._default_manager.visible_to(self.request.user))  # type: ignore[attr-defined]

    def loaded(self, queryset: QuerySet) -> QuerySet:
        """`queryset` with the relations that the serializer and the notifications read."""
        return queryset

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "audience": audience_of(self.request.user)}


class EntityList(ListModelMixin, EntityView):
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class EntityDetail(EntityView):
    """GET, PATCH and DELETE of one entity. 404 for what the caller may not see, 403 for what it may not do."""

    # Rows that a change holds until it commits: what decides who is told must not change meanwhile.
    locked_rows: tuple[str, ...] = ("self",)

    def found(self, queryset: QuerySet) -> Any:
        return get_object_or_404(queryset, pk=self.kwargs["id"])

    def locked(self) -> Any:
        return self.found(self.get_queryset().select_for_update(of=self.locked_rows))

    def may_change(self, instance: Any) -> bool:
        return audience_of(self.request.user) == STAFF

    def may_delete(self, instance: Any) -> bool:
        return self.may_change(instance)

    def get(self, request: Request, id: UUID) -> Response:
        return Response(self.get_serializer(self.found(self.get_queryset())).data)

    def patch(self, request: Request, id: UUID) -> Response:
        data = request.data  # read before the transaction begins: a slow client must not hold it open
        with unit():
            instance = self.locked()
            if not self.may_change(instance):
                raise Forbidden("You may see this, but not change it.")
            serializer = self.get_serializer(instance, data=data, partial=True)
            serializer.is_valid(raise_exception=True)
            serializer.save()
        return Response(serializer.data)

    def delete(self, request: Request, id: UUID) -> Response:
        with unit():
            instance = self.locked()
            if not self.may_delete(instance):
                raise Forbidden("You may see this, but not delete it.")
            instance.delete()
        return Response(status=204)
