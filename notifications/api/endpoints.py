from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import transaction
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
from notifications.api.filters import DeliveryFilter
from notifications.api.serializers import (
    EndpointCheckSerializer,
    NewEndpointSerializer,
    WebhookAttemptSerializer,
    WebhookDeliveryDetailSerializer,
    WebhookDeliverySerializer,
    WebhookEndpointSerializer,
    WebhookTestSerializer,
    WebhookUrlAnswerSerializer,
    WebhookUrlSerializer,
)
from notifications.encryption import SecretUnreadable
from notifications.models import EndpointState, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import conformance, endpoints, trial, turns
from notifications.webhooks.destination import DestinationRefused
from notifications.webhooks.endpoint_health import with_recent
from notifications.webhooks.headers import HeadersRefused

# What a PATCH writes as it was given.
_PLAIN_FIELDS = ("description", "types", "rate_limit", "ordered")


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT


def _normalized(request: Request, field: str, url: str) -> str:
    """The URL in its one form; a refusal becomes a validation error of the field."""
    try:
        return endpoints.normalize_url(url, own_origins=(f"{request.scheme}://{request.get_host()}",))
    except DestinationRefused as refusal:
        message = refusal.message[:1].upper() + refusal.message[1:] + "."
        raise serializers.ValidationError({field: [serializers.ErrorDetail(message, refusal.code)]}) from None


@contextmanager
def _headers_refused_as_invalid() -> Iterator[None]:
    try:
        yield
    except HeadersRefused as refusal:
        raise serializers.ValidationError({"headers": refusal.problems}) from None


def _with_secret(endpoint: WebhookEndpoint, secret: str | None) -> dict[str, Any]:
    """The endpoint, with its secret where that is new."""
    return {**WebhookEndpointSerializer(endpoint).data, **({"secret": secret} if secret else {})}


def _tested(request: Request, endpoint: WebhookEndpoint) -> Response:
    serializer = WebhookTestSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    try:
        with turns.turn(caller(request).pk):
            attempt = trial.send_test(endpoint, serializer.validated_data["type"])
    except turns.Busy as error:
        raise Conflict(str(error), code="busy") from None
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
        """Remove the URL. What was not delivered yet is cancelled."""
        endpoint = self.primary()
        if endpoint is not None:
            endpoints.delete(endpoint)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MyWebhookTest(_WithPrimary):
    throttle_scope = "webhook-test"

    @extend_schema(request=WebhookTestSerializer, responses=WebhookAttemptSerializer)
    def post(self, request: Request) -> Response:
        """Send a real `webhook_test` (or the example of another type) to the caller's webhook URL; the attempt."""
        endpoint = self.primary()
        if endpoint is None:
            raise Conflict("Set a webhook URL first: PUT /api/users/me/webhook.", code="no_webhook_url")
        return _tested(request, endpoint)


class EndpointList(ListCreateAPIView):
    """The caller's webhook endpoints; administrators see everyone's."""

    serializer_class = WebhookEndpointSerializer
    filter_backends: list = []
    orderings = {"created_at": "created_at", "-created_at": "-created_at"}
    default_order = "created_at"

    def get_queryset(self) -> QuerySet[WebhookEndpoint]:
        return WebhookEndpoint.objects.visible_to(caller(self.request))

    def loaded(self, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        return with_recent(queryset)

    @extend_schema(responses={201: NewEndpointSerializer})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Add an endpoint. The answer holds its signing secret, this once."""
        return super().post(request, *args, **kwargs)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        url = _normalized(request, "url", data["url"])
        try:
            with _headers_refused_as_invalid():
                endpoint, secret = endpoints.create(
                    caller(request),
                    url,
                    description=data.get("description", ""),
                    types=data.get("types", []),
                    own_headers=data.get("header_names"),
                    rate_limit=data.get("rate_limit"),
                    ordered=data.get("ordered", False),
                )
        except endpoints.TooManyEndpoints as error:
            raise Conflict(str(error), code="too_many_endpoints") from None
        return Response(_with_secret(endpoint, secret), status=status.HTTP_201_CREATED)


class OneEndpoint(GenericAPIView):
    queryset = WebhookEndpoint.objects.none()  # for the schema; `endpoint()` is the only way to one
    serializer_class = WebhookEndpointSerializer
    filter_backends: list = []

    def endpoint(self) -> WebhookEndpoint:
        visible = WebhookEndpoint.objects.visible_to(caller(self.request))
        return get_object_or_404(with_recent(visible).select_related("owner"), pk=self.kwargs["id"])


class EndpointDetail(OneEndpoint):
    @extend_schema(responses=WebhookEndpointSerializer)
    def get(self, request: Request, id: UUID) -> Response:
        """One endpoint and how it is doing."""
        return Response(WebhookEndpointSerializer(self.endpoint()).data)

    @extend_schema(request=WebhookEndpointSerializer, responses=NewEndpointSerializer)
    def patch(self, request: Request, id: UUID) -> Response:
        """Change URL, description, types, headers, or pause and resume by `state`. Another URL gets a new secret.

        A disabled endpoint becomes active by another URL, a paused one stays paused. What was held is sent after
        resuming, as fast as the receiver takes it.
        """
        endpoint = self.endpoint()
        serializer = WebhookEndpointSerializer(endpoint, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        url = _normalized(request, "url", data["url"]) if "url" in data else None
        with transaction.atomic():
            with _headers_refused_as_invalid():
                secret = endpoints.change(
                    endpoint,
                    url=url,
                    own_headers=data.get("header_names"),
                    **{field: data[field] for field in _PLAIN_FIELDS if field in data},
                )
            wanted = data.get("state", endpoint.state)
            if wanted == EndpointState.PAUSED != endpoint.state:
                endpoints.pause(endpoint)
            elif wanted == EndpointState.ACTIVE != endpoint.state:
                endpoints.resume(endpoint)
        return Response(_with_secret(endpoint, secret))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: UUID) -> Response:
        """Delete an endpoint. What was not delivered yet is cancelled."""
        endpoints.delete(self.endpoint())
        return Response(status=status.HTTP_204_NO_CONTENT)


class EndpointSecret(OneEndpoint):
    @extend_schema(request=None, responses=NewEndpointSerializer, operation_id="webhook_endpoints_rotate_secret")
    def post(self, request: Request, id: UUID) -> Response:
        """A new secret. For 24 hours the old one signs too."""
        endpoint = self.endpoint()
        return Response(_with_secret(endpoint, endpoints.rotate_secret(endpoint)))


class EndpointTest(OneEndpoint):
    throttle_scope = "webhook-test"

    @extend_schema(
        request=WebhookTestSerializer, responses=WebhookAttemptSerializer, operation_id="webhook_endpoints_test"
    )
    def post(self, request: Request, id: UUID) -> Response:
        """Send a real `webhook_test`, or the example of another type, to this endpoint and answer with the attempt."""
        return _tested(request, self.endpoint())


class EndpointCheck(OneEndpoint):
    throttle_scope = "webhook-test"

    @extend_schema(request=None, responses=EndpointCheckSerializer)
    def post(self, request: Request, id: UUID) -> Response:
        """Check the receiver: does it take what it must, and refuse what was not signed?

        A dozen real requests that speak of a `webhook_test`; they are no deliveries, and none is repeated.
        """
        endpoint = self.endpoint()
        if endpoint.is_internal:
            raise Conflict("The receiver inside this application needs no check.", code="internal_receiver")
        try:
            secrets, headers = endpoint.secrets(), endpoint.headers()
        except SecretUnreadable as error:
            raise Conflict(str(error), code="not_sendable") from None
        try:
            with turns.turn(caller(request).pk):
                checks = conformance.check(endpoint.url, secrets, own_headers=headers)
        except turns.Busy as error:
            raise Conflict(str(error), code="busy") from None
        passed = all(check.passed for check in checks)
        return Response(EndpointCheckSerializer({"passed": passed, "checks": checks}).data)


class EndpointDeliveries(ListAPIView):
    """What was sent to this endpoint, newest first."""

    serializer_class = WebhookDeliverySerializer
    filterset_class = DeliveryFilter
    orderings = {"-created_at": "-created_at", "created_at": "created_at"}
    default_order = "-created_at"

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        if getattr(self, "swagger_fake_view", False):
            return WebhookDelivery.objects.none()
        endpoint = get_object_or_404(WebhookEndpoint.objects.visible_to(caller(self.request)), pk=self.kwargs["id"])
        return endpoint.deliveries.select_related("notification")


class DeliveryDetail(RetrieveAPIView):
    """One delivery with its attempts."""

    serializer_class = WebhookDeliveryDetailSerializer
    lookup_field = "id"
    filter_backends: list = []

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        deliveries = WebhookDelivery.objects.visible_to(caller(self.request))
        return deliveries.select_related("notification").prefetch_related("attempts")
