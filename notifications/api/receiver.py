from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from notifications.api.serializers import ReceivedSerializer
from notifications.webhooks import receiver

# Our own bodies stay below 90 KB.
MAX_BODY_BYTES = 128 * 1024


class _Refused(APIException):
    def __init__(self, refusal: receiver.Refused) -> None:
        super().__init__(str(refusal), code=refusal.code)
        self.status_code = refusal.status


class InternalReceiver(APIView):
    """Takes webhooks of this application and passes them on to their person's sockets as `webhook.received`.

    The signature is the authentication: no token, no session, no CSRF.
    """

    authentication_classes: list = []
    permission_classes = [AllowAny]
    throttle_classes = [ScopedRateThrottle]
    throttle_scope = "webhook-receiver"

    @extend_schema(request=dict, responses=ReceivedSerializer, auth=[])
    def post(self, request: Request) -> Response:
        length = request.META.get("CONTENT_LENGTH") or ""
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise _Refused(receiver.Refused(413, "body_too_large", f"A webhook has at most {MAX_BODY_BYTES} bytes."))
        try:
            receiver.receive(request.headers, request._request.read(MAX_BODY_BYTES))
        except receiver.Refused as refusal:
            raise _Refused(refusal) from None
        return Response({"status": "received"})
