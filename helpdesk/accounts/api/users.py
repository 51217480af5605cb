"""People: one's own account, signing up, and what administrators do."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import update_session_auth_hash
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from helpdesk.accounts.api.serializers import (
    NewUserSerializer,
    ProfileSerializer,
    RegistrationSerializer,
    UserSerializer,
)
from helpdesk.accounts.api.tokens import PublicView
from helpdesk.accounts.authentication import caller
from helpdesk.accounts.models import Role, User
from helpdesk.api.entities import audience_of
from helpdesk.api.errors import Conflict, Forbidden
from helpdesk.api.filters import FlagFilter
from helpdesk.api.views import EntityDetail, EntityList
from helpdesk.changes.unit import unit


class IsAdmin(BasePermission):
    message = "Only administrators may do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return caller(request).role == Role.ADMIN


ADMINS = [IsAuthenticated, IsAdmin]


class Registration(PublicView):
    throttle_scope = "register"

    @extend_schema(
        operation_id="auth_register",
        request=RegistrationSerializer,
        responses={201: UserSerializer},
        auth=[],
        tags=["auth"],
    )
    def post(self, request: Request) -> Response:
        """Sign up as a customer.

        A username or an e-mail address that is taken is named as such: without a confirmation by mail there is no
        other way to tell its owner, and the throttle keeps it from being a directory.
        """
        if not settings.REGISTRATION_OPEN:
            raise Forbidden("Registration is closed. Ask an administrator for an account.")
        serializer = RegistrationSerializer(User(role=Role.CUSTOMER), data=request.data)
        serializer.is_valid(raise_exception=True)
        user = serializer.save()
        return Response(UserSerializer(user).data, status=201)


class Profile(APIView):
    """One's own account."""

    @extend_schema(operation_id="users_me", responses=UserSerializer)
    def get(self, request: Request) -> Response:
        return Response(UserSerializer(request.user).data)

    @extend_schema(operation_id="users_me_update", request=ProfileSerializer, responses=UserSerializer)
    def patch(self, request: Request) -> Response:
        """Change one's name, e-mail address or password. A new password ends every token and every other session."""
        data = request.data
        with unit():
            user = get_object_or_404(User.objects.visible_to(request.user).select_for_update(), pk=request.user.pk)
            serializer = ProfileSerializer(user, data=data, partial=True, context={"audience": audience_of(user)})
            serializer.is_valid(raise_exception=True)
            password_changed = "password" in serializer.validated_data
            serializer.save()
        if password_changed and request.auth is None:
            update_session_auth_hash(request._request, user)
        return Response(UserSerializer(user).data)


class UserFilter(filters.FilterSet):
    role = filters.MultipleChoiceFilter(choices=Role.choices, distinct=False)
    is_active = FlagFilter()
    search = filters.CharFilter(method="matching", max_length=200, help_text="Part of username, name or e-mail.")

    class Meta:
        model = User
        fields = ["role", "is_active"]

    def matching(self, queryset: QuerySet[User], name: str, value: str) -> QuerySet[User]:
        return queryset.filter(Q(username__icontains=value) | Q(name__icontains=value) | Q(email__icontains=value))


class UserList(EntityList):
    """People, for administrators."""

    model = User
    serializer_class = UserSerializer
    permission_classes = ADMINS
    filterset_class = UserFilter
    orderings = {name: name for name in ("created_at", "-created_at", "username", "-username")}
    default_order = "username"

    @extend_schema(request=NewUserSerializer, responses={201: UserSerializer})
    def post(self, request: Request) -> Response:
        """Add a person."""
        context = self.get_serializer_context()
        serializer = NewUserSerializer(User(), data=request.data, context=context)
        serializer.is_valid(raise_exception=True)
        return Response(UserSerializer(serializer.save(), context=context).data, status=201)


def locked_admins() -> set[UUID]:
    """The active administrators, locked until the transaction ends.

    Taken before any other row, so that two administrators who take each other's rights at the same moment come one
    after the other.
    """
    admins = User.objects.active().filter(role=Role.ADMIN).order_by("pk")
    return set(admins.select_for_update().values_list("pk", flat=True))


class UserDetail(EntityDetail):
    """One person, for administrators."""

    model = User
    serializer_class = UserSerializer
    permission_classes = ADMINS
    http_method_names = ["get", "patch", "head", "options"]

    @extend_schema(responses=UserSerializer)
    def patch(self, request: Request, id: UUID) -> Response:
        """Change a person; `is_active` does what `deactivate` and `activate` do."""
        data = request.data
        with unit():
            return self.change(data)

    def change(self, data: Any) -> Response:
        admins = locked_admins()
        user = self.locked()
        was_active = user.is_active
        serializer = self.get_serializer(user, data=data, partial=True)
        serializer.is_valid(raise_exception=True)
        wanted = serializer.validated_data
        deactivated = was_active and not wanted.get("is_active", True)
        if deactivated and user.pk == self.request.user.pk:
            raise Forbidden("You cannot deactivate yourself. Ask another administrator.")
        if (deactivated or wanted.get("role", Role.ADMIN) != Role.ADMIN) and admins == {user.pk}:
            raise Conflict("This is the last active administrator.", code="last_admin")
        serializer.save()
        return Response(serializer.data)


class UserDeactivation(UserDetail):
    http_method_names = ["post", "options"]

    @extend_schema(operation_id="users_deactivate", request=None, responses=UserSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """End a person's access; what they wrote stays. Doing it again changes nothing."""
        with unit():
            return self.change({"is_active": False})


class UserActivation(UserDetail):
    http_method_names = ["post", "options"]

    @extend_schema(operation_id="users_activate", request=None, responses=UserSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """Let a deactivated person sign in again. Tokens from before stay dead."""
        with unit():
            return self.change({"is_active": True})
