from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from helpdesk.accounts.authentication import caller
from helpdesk.api.filters import FlagFilter
from notifications import catalogue, reading
from notifications.api.serializers import NotificationSerializer, UnreadCountSerializer
from notifications.models import Notification


class NotificationFilter(filters.FilterSet):
    type = filters.MultipleChoiceFilter(choices=[(type_, type_) for type_ in catalogue.TYPES])
    unread = FlagFilter(field_name="read_at", lookup_expr="isnull")

    class Meta:
        model = Notification
        fields = ["type", "unread"]


class NotificationList(ListAPIView):
    """The caller's notifications, newest first."""

    serializer_class = NotificationSerializer
    filterset_class = NotificationFilter
    orderings = {"-created_at": "-created_at", "created_at": "created_at"}
    default_order = "-created_at"

    def get_queryset(self) -> QuerySet[Notification]:
        return Notification.objects.visible_to(caller(self.request))


class ReadNotification(APIView):
    @extend_schema(request=None, responses=NotificationSerializer, operation_id="notifications_read")
    def post(self, request: Request, id: UUID) -> Response:
        """Mark one notification as read. Doing it again changes nothing."""
        notification = get_object_or_404(Notification.objects.visible_to(caller(request)), pk=id)
        if notification.read_at is None:
            reading.mark_read(caller(request), [id])
            notification.refresh_from_db(fields=["read_at"])
        return Response(NotificationSerializer(notification).data)


class ReadAllNotifications(APIView):
    @extend_schema(request=None, responses=UnreadCountSerializer, operation_id="notifications_read_all")
    def post(self, request: Request) -> Response:
        """Mark all of the caller's notifications as read."""
        return Response({"unread": reading.mark_read(caller(request))})


class UnreadCount(APIView):
    @extend_schema(responses=UnreadCountSerializer, operation_id="notifications_unread_count")
    def get(self, request: Request, *args: Any) -> Response:
        """How many notifications the caller has not read."""
        return Response({"unread": Notification.objects.visible_to(caller(request)).unread().count()})
