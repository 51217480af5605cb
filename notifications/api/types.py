"""The notification types in words, each with an example of its webhook."""

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from helpdesk.accounts.authentication import caller
from notifications import catalogue, examples
from notifications.api.serializers import WebhookExampleSerializer, WebhookTypeListSerializer


class TypeList(APIView):
    @extend_schema(responses=WebhookTypeListSerializer, operation_id="webhook_types_list")
    def get(self, request: Request) -> Response:
        """All notification types: what happened, and who is told."""
        return Response({"results": [asdict(one) for one in catalogue.DESCRIPTIONS.values()]})


class TypeDetail(APIView):
    @extend_schema(responses=WebhookExampleSerializer, operation_id="webhook_types_retrieve")
    def get(self, request: Request, type: str) -> Response:
        """One type with an example: a whole body, in the shape in which the caller would get a real one."""
        described = catalogue.DESCRIPTIONS.get(type)
        if described is None:
            raise NotFound("There is no such notification type: GET /api/webhook-types lists them.")
        return Response({**asdict(described), "example": examples.of(type).body(caller(request).role)})
