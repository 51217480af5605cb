from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.generics import GenericAPIView, ListAPIView, ListCreateAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from helpdesk.accounts.authentication import caller
from notifications.api.serializers import (
    CountSerializer,
    NewEndpointSerializer,
    RecoverSerializer,
    WebhookAttemptSerializer,
    WebhookDeliveryDetailSerializer,
    WebhookDeliverySerializer,
    WebhookEndpointSerializer,
    WebhookUrlAnswerSerializer,
    WebhookUrlSerializer,
)
from notifications.models import DeliveryState, EndpointState, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoints, queue, trial
from notifications.webhooks.destination import DestinationRefused

# What `recover` sends again: everything that should have arrived and did not.
NOT_ARRIVED = (DeliveryState.EXHAUSTED, DeliveryState.HELD, DeliveryState.RETRYING)


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


def _normalized(request: Request, field: str, url: str) -> str:
    """The URL in its one form; a refusal becomes a validation error of the field."""
    try:
        return endpoints.normalize_url(url, own_origins=(f"{request.scheme}://{request.get_host()}",))
    except DestinationRefused as refusal:
        message = refusal.message[:1].upper() + refusal.message[1:] + "."
        raise serializers.ValidationError({field: [serializers.ErrorDetail(message, refusal.code)]}) from None


def _with_secret(endpoint: WebhookEndpoint, secret: str | None) -> dict[str, Any]:
    """The endpoint, with its secret where that is new."""
    return {**WebhookEndpointSerializer(endpoint).data, **({"secret": secret} if secret else {})}


def _tested(endpoint: WebhookEndpoint) -> Response:
    try:
        attempt = trial.send_test(endpoint)
    except trial.NotSent as error:
        raise Conflict(str(error), code="not_sent") from None
    return Response(WebhookAttemptSerializer(attempt).data)


class _WithPrimary(APIView):
    def primary(self) -> WebhookEndpoint | None:
        return WebhookEndpoint.objects.filter(owner=caller(self.request), is_primary=True, deleted_at=None).first()


class MyWebhook(_WithPrimary):
    """The caller's webhook URL: their first endpoint, set with one call."""

    @extend_schema(responses=WebhookUrlAnswerSerializer)
    def get(self, request: Request) -> Response:
        endpoint = self.primary()
        return Response({"webhook_url": endpoint.url if endpoint else None})

    @extend_schema(request=WebhookUrlSerializer, responses=WebhookUrlAnswerSerializer)
    def put(self, request: Request) -> Response:
        """Set the URL. The answer holds the signing secret when it is new; the same URL again changes nothing."""
        serializer = WebhookUrlSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        url = _normalized(request, "webhook_url", serializer.validated_data["webhook_url"])
        try:
            endpoint, secret = endpoints.set_primary(caller(request), url)
        except endpoints.TooManyEndpoints as error:
            raise Conflict(str(error), code="too_many_endpoints") from None
        return Response({"webhook_url": endpoint.url, **({"secret": secret} if secret else {})})

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        endpoint = self.primary()
        if endpoint is not None:
            endpoints.delete(endpoint)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MyWebhookTest(_WithPrimary):
    throttle_scope = "webhook-test"

    @extend_schema(request=None, responses=WebhookAttemptSerializer)
    def post(self, request: Request) -> Response:
        """Send a real `webhook_test` to the caller's webhook URL and answer with the attempt."""
        endpoint = self.primary()
        if endpoint is None:
            raise Conflict("Set a webhook URL first: PUT /api/users/me/webhook.", code="no_webhook_url")
        return _tested(endpoint)


class EndpointList(ListCreateAPIView):
    """The caller's webhook endpoints; administrators see everyone's."""

    serializer_class = WebhookEndpointSerializer
    filter_backends: list = []
    orderings = {"created_at": "created_at", "-created_at": "-created_at"}
    default_order = "created_at"

    def get_queryset(self) -> QuerySet[WebhookEndpoint]:
        return WebhookEndpoint.objects.visible_to(caller(self.request))

    @extend_schema(responses={201: NewEndpointSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        url = _normalized(request, "url", data["url"])
        try:
            endpoint, secret = endpoints.create(
                caller(request), url, description=data.get("description", ""), types=data.get("types", [])
            )
        except endpoints.TooManyEndpoints as error:
            raise Conflict(str(error), code="too_many_endpoints") from None
        return Response(_with_secret(endpoint, secret), status=status.HTTP_201_CREATED)


class _OneEndpoint(GenericAPIView):
    queryset = WebhookEndpoint.objects.none()  # for the schema; `endpoint()` is the only way to one
    serializer_class = WebhookEndpointSerializer
    filter_backends: list = []

    def endpoint(self) -> WebhookEndpoint:
        return get_object_or_404(
            WebhookEndpoint.objects.visible_to(caller(self.request)).select_related("owner"), pk=self.kwargs["id"]
        )


class EndpointDetail(_OneEndpoint):
    @extend_schema(responses=WebhookEndpointSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        return Response(WebhookEndpointSerializer(self.endpoint()).data)

    @extend_schema(request=WebhookEndpointSerializer, responses=NewEndpointSerializer)
    def patch(self, request: Request, id: UUID) -> Response:
        """Change URL, description, types, or pause and resume by `state`. Another URL gets a new secret."""
        endpoint = self.endpoint()
        serializer = WebhookEndpointSerializer(endpoint, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        secret = None
        if "url" in data:
            secret = endpoints.change_url(endpoint, _normalized(request, "url", data["url"]))
        for field in ("description", "types"):
            setattr(endpoint, field, data.get(field, getattr(endpoint, field)))
        endpoint.save()
        wanted = data.get("state", endpoint.state)
        if wanted == EndpointState.PAUSED != endpoint.state:
            endpoints.pause(endpoint)
        elif wanted == EndpointState.ACTIVE != endpoint.state:
            endpoints.resume(endpoint)
        return Response(_with_secret(endpoint, secret))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: UUID) -> Response:
        endpoints.delete(self.endpoint())
        return Response(status=status.HTTP_204_NO_CONTENT)


class EndpointSecret(_OneEndpoint):
    @extend_schema(request=None, responses=NewEndpointSerializer, operation_id="webhook_endpoints_rotate_secret")
    def post(self, request: Request, id: UUID) -> Response:
        """A new secret. For 24 hours the old one signs too."""
        endpoint = self.endpoint()
        return Response(_with_secret(endpoint, endpoints.rotate_secret(endpoint)))


class EndpointTest(_OneEndpoint):
    throttle_scope = "webhook-test"

    @extend_schema(request=None, responses=WebhookAttemptSerializer, operation_id="webhook_endpoints_test")
    def post(self, request: Request, id: UUID) -> Response:
        """Send a real `webhook_test` to this endpoint and answer with the attempt."""
        return _tested(self.endpoint())


class EndpointDeliveries(ListAPIView):
    """What was sent to this endpoint, newest first."""

    serializer_class = WebhookDeliverySerializer
    filterset_fields = ["state"]
    orderings = {"-created_at": "-created_at", "created_at": "created_at"}
    default_order = "-created_at"

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        if getattr(self, "swagger_fake_view", False):
            return WebhookDelivery.objects.none()
        endpoint = get_object_or_404(WebhookEndpoint.objects.visible_to(caller(self.request)), pk=self.kwargs["id"])
        return endpoint.deliveries.select_related("notification")


class EndpointRecovery(_OneEndpoint):
    @extend_schema(request=RecoverSerializer, responses=CountSerializer, operation_id="webhook_endpoints_recover")
    def post(self, request: Request, id: UUID) -> Response:
        """Send again whatever has not arrived since a time."""
        endpoint = self.endpoint()
        serializer = RecoverSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if endpoint.state != EndpointState.ACTIVE:
            raise Conflict(f"The endpoint is {endpoint.state}: resume it first.", code="endpoint_not_active")
        missed = endpoint.deliveries.filter(state__in=NOT_ARRIVED, created_at__gte=serializer.validated_data["since"])
        return Response({"count": queue.redeliver(missed)})


class DeliveryDetail(RetrieveAPIView):
    """One delivery with its attempts."""

    serializer_class = WebhookDeliveryDetailSerializer
    lookup_field = "id"
    filter_backends: list = []

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        deliveries = WebhookDelivery.objects.visible_to(caller(self.request))
        return deliveries.select_related("notification").prefetch_related("attempts")


class Redelivery(APIView):
    @extend_schema(request=None, responses=WebhookDeliverySerializer, operation_id="webhook_deliveries_redeliver")
    def post(self, request: Request, id: UUID) -> Response:
        """Send one delivery again, under the same `webhook-id`."""
        deliveries = WebhookDelivery.objects.visible_to(caller(request))
        delivery = get_object_or_404(deliveries.select_related("endpoint", "notification"), pk=id)
        if delivery.endpoint.deleted_at:
            raise Conflict("The endpoint was deleted.", code="endpoint_deleted")
        if delivery.endpoint.state != EndpointState.ACTIVE:
            raise Conflict(f"The endpoint is {delivery.endpoint.state}: resume it first.", code="endpoint_not_active")
        if not queue.redeliver(deliveries.filter(pk=delivery.pk)):
            raise Conflict("It is being sent at this moment.", code="being_sent")
        delivery.refresh_from_db()
        return Response(WebhookDeliverySerializer(delivery).data)
