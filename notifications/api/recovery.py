"""Sending again: one delivery, some of them, or all that an endpoint missed since a time."""

from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from helpdesk.accounts.authentication import caller
from notifications.api.endpoints import Conflict, OneEndpoint
from notifications.api.serializers import WebhookDeliverySerializer
from notifications.models import RecoveryState, WebhookDelivery, WebhookRecovery
from notifications.webhooks import recovery
from notifications.webhooks.recovery import AT_ONCE, LEFT_OUT, NOT_ARRIVED, RECOVERABLE, RecoveryRefused, Span


class LeftOutSerializer(serializers.Serializer):
    reason = serializers.ChoiceField(choices=list(LEFT_OUT.items()))
    count = serializers.IntegerField()


class RecoverSerializer(serializers.Serializer):
    since = serializers.DateTimeField(help_text="Deliveries created at or after this time …")
    until = serializers.DateTimeField(required=False, help_text="… and before this one. Now, unless it is given.")
    states = serializers.ListField(
        child=serializers.ChoiceField(choices=list(RECOVERABLE)),
        default=list(NOT_ARRIVED),
        allow_empty=False,
        max_length=len(RECOVERABLE),
        help_text="The states they are in; unless given, those of what should have arrived and did not.",
    )
    per_minute = serializers.IntegerField(
        min_value=1, required=False, help_text="How many are released a minute, up to what the operator allows."
    )
    dry_run = serializers.BooleanField(default=False, help_text="Only say how many there are, and how long it takes.")

    def validate_per_minute(self, per_minute: int) -> int:
        if per_minute > settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE:
            raise serializers.ValidationError(f"At most {settings.WEBHOOK_RECOVERY_MAX_PER_MINUTE} a minute.")
        return per_minute

    def validate(self, data: dict) -> dict:
        until = data.get("until") or timezone.now()
        if data["since"] >= until:
            field = "until" if "until" in data else "since"
            words = "It must be later than `since`." if "until" in data else "It must be in the past."
            raise serializers.ValidationError({field: [words]})
        return data


class WebhookRecoverySerializer(serializers.ModelSerializer):
    remaining = serializers.IntegerField(read_only=True, help_text="Still to be released.")
    seconds_left = serializers.IntegerField(read_only=True, help_text="About how long that takes.")

    class Meta:
        model = WebhookRecovery
        fields = [
            "id",
            "endpoint_id",
            "requested_by_id",
            "since",
            "until",
            "states",
            "per_minute",
            "state",
            "state_reason",
            "total",
            "released",
            "remaining",
            "seconds_left",
            "created_at",
            "finished_at",
        ]
        read_only_fields = fields


class RecoveryEstimateSerializer(serializers.Serializer):
    """What a recovery would do."""

    count = serializers.IntegerField(help_text="How many would be sent again.")
    per_minute = serializers.IntegerField()
    seconds = serializers.IntegerField(help_text="About how long it takes until the last of them is released.")
    left_out = LeftOutSerializer(many=True, help_text="What of the same time is not sent again, and why.")


class RedeliverSerializer(serializers.Serializer):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=AT_ONCE)
    dry_run = serializers.BooleanField(default=False, help_text="Only say which would be sent again.")


class NotRedeliveredSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    reason = serializers.ChoiceField(choices=["not_found", *LEFT_OUT])


class RedeliveredSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="How many are sent again.")
    left_out = NotRedeliveredSerializer(many=True)


class EndpointRecovery(OneEndpoint):
    @extend_schema(
        request=RecoverSerializer,
        responses={202: WebhookRecoverySerializer, 200: RecoveryEstimateSerializer},
        operation_id="webhook_endpoints_recover",
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Send again whatever has not arrived since a time, at a bounded rate and behind what is new.

        202 and the recovery, whose progress is at `/api/webhook-recoveries/{id}`; 200 and an estimate for a dry run.
        409 for an endpoint that is paused or disabled, or has a recovery that is running.
        """
        endpoint = self.endpoint()
        serializer = RecoverSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        span = Span(data["since"], data.get("until") or timezone.now(), tuple(dict.fromkeys(data["states"])))
        per_minute = data.get("per_minute", settings.WEBHOOK_RECOVERY_PER_MINUTE)
        try:
            recovery.check(endpoint)
            if data["dry_run"]:
                return Response(_estimated(recovery.estimate(endpoint, span, per_minute), per_minute))
            begun = recovery.start(endpoint, span, per_minute, caller(request))
        except RecoveryRefused as refusal:
            raise Conflict(str(refusal), code=refusal.code) from None
        return Response(WebhookRecoverySerializer(begun).data, status=status.HTTP_202_ACCEPTED)


def _estimated(estimate: recovery.Estimate, per_minute: int) -> dict:
    left_out = [{"reason": reason, "count": count} for reason, count in estimate.left_out.items()]
    return {"count": estimate.count, "per_minute": per_minute, "seconds": estimate.seconds, "left_out": left_out}


class _RecoveryFilter(filters.FilterSet):
    endpoint_id = filters.UUIDFilter()
    state = filters.ChoiceFilter(choices=RecoveryState.choices)

    class Meta:
        model = WebhookRecovery
        fields: list = []


def _visible(view: APIView) -> QuerySet[WebhookRecovery]:
    if getattr(view, "swagger_fake_view", False):
        return WebhookRecovery.objects.none()
    return WebhookRecovery.objects.visible_to(caller(view.request))


class RecoveryList(ListAPIView):
    """The recoveries of the caller's endpoints, newest first."""

    serializer_class = WebhookRecoverySerializer
    filterset_class = _RecoveryFilter
    orderings = {"-created_at": "-created_at", "created_at": "created_at"}
    default_order = "-created_at"

    def get_queryset(self) -> QuerySet[WebhookRecovery]:
        return _visible(self)


class RecoveryDetail(RetrieveAPIView):
    """One recovery and how far it has come."""

    serializer_class = WebhookRecoverySerializer
    lookup_field = "id"
    filter_backends: list = []

    def get_queryset(self) -> QuerySet[WebhookRecovery]:
        return _visible(self)


class RecoveryCancellation(APIView):
    @extend_schema(request=None, responses=WebhookRecoverySerializer, operation_id="webhook_recoveries_cancel")
    def post(self, request: Request, id: UUID) -> Response:
        """Release nothing more. What has been released is sent all the same; pause the endpoint to hold that too."""
        found = get_object_or_404(_visible(self), pk=id)
        if not recovery.cancel(found, caller(request).display_name):
            raise Conflict("The recovery is over already.", code="recovery_over")
        found.refresh_from_db()
        return Response(WebhookRecoverySerializer(found).data)


class Redelivery(APIView):
    @extend_schema(request=None, responses=WebhookDeliverySerializer, operation_id="webhook_deliveries_redeliver")
    def post(self, request: Request, id: UUID) -> Response:
        """Send one delivery again, under the same `webhook-id`. One that waits already stays as it is."""
        deliveries = WebhookDelivery.objects.visible_to(caller(request))
        delivery = get_object_or_404(deliveries.select_related("endpoint", "notification"), pk=id)
        match recovery.obstacle(delivery):
            case "endpoint_deleted" as code:
                raise Conflict("The endpoint was deleted.", code=code)
            case "endpoint_not_active" as code:
                raise Conflict(f"The endpoint is {delivery.endpoint.state}: resume it first.", code=code)
            case "being_sent" as code:
                raise Conflict("It is being sent at this moment.", code=code)
            case None:
                recovery.redeliver([delivery])
        # Read again, with its new state; it may have been pruned since.
        delivery = get_object_or_404(deliveries.select_related("notification"), pk=id)
        return Response(WebhookDeliverySerializer(delivery).data)


class SelectedRedelivery(APIView):
    @extend_schema(
        request=RedeliverSerializer,
        responses=RedeliveredSerializer,
        operation_id="webhook_deliveries_redeliver_selected",
    )
    def post(self, request: Request) -> Response:
        """Send some deliveries again, up to 100, each under its `webhook-id`; says which are left out and why."""
        serializer = RedeliverSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        ids = list(dict.fromkeys(serializer.validated_data["ids"]))
        visible = WebhookDelivery.objects.visible_to(caller(request)).select_related("endpoint")
        found = {delivery.pk: delivery for delivery in visible.filter(pk__in=ids)}
        obstacles = {id_: recovery.obstacle(found[id_]) if id_ in found else "not_found" for id_ in ids}
        sendable = [found[id_] for id_, reason in obstacles.items() if reason is None]
        count = len(sendable) if serializer.validated_data["dry_run"] else recovery.redeliver(sendable)
        left_out = [{"id": id_, "reason": reason} for id_, reason in obstacles.items() if reason]
        return Response({"count": count, "left_out": left_out})
