from django.contrib.auth import login, logout
from django.middleware.csrf import get_token
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle, ScopedRateThrottle
from rest_framework.views import APIView

from helpdesk.accounts.api.serializers import CredentialsSerializer, SessionSerializer
from helpdesk.accounts.api.tokens import sign_in
from helpdesk.accounts.authentication import SessionAuthentication, sign_out_another
from helpdesk.accounts.models import User
from helpdesk.api.entities import audience_of
from helpdesk.changes.unit import unit


@method_decorator([never_cache, csrf_protect], name="dispatch")
class SessionView(APIView):
    """The sign-in of a browser on a page of this origin. Everything but GET needs `X-CSRFToken`.

    `csrf_protect` stands here because the sign-in itself must be protected too: REST framework checks CSRF only
    for who is signed in already.
    """

    authentication_classes = [SessionAuthentication]
    permission_classes = [AllowAny]
    throttle_scope = "sign-in"

    def get_throttles(self) -> list[BaseThrottle]:
        # Only signing in is an attempt; asking who one is may happen on every page.
        return [
            throttle
            for throttle in super().get_throttles()
            if self.request.method == "POST" or not isinstance(throttle, ScopedRateThrottle)
        ]

    @extend_schema(operation_id="auth_session", responses=SessionSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """Who is signed in, and the `csrftoken` cookie."""
        get_token(request._request)
        return _answer(request.user if request.user.is_authenticated else None)

    @extend_schema(
        operation_id="auth_session_create", request=CredentialsSerializer, responses=SessionSerializer, tags=["auth"]
    )
    def post(self, request: Request) -> Response:
        """Sign in with a session cookie. The CSRF token changes with it."""
        user = sign_in(request)
        with unit():
            sign_out_another(request._request, user)
            login(request._request, user)
        return _answer(user)

    @extend_schema(operation_id="auth_session_destroy", responses={204: None}, tags=["auth"])
    def delete(self, request: Request) -> Response:
        """Sign out; sockets that this session opened close. Doing it again changes nothing."""
        with unit():
            logout(request._request)
        return Response(status=204)


def _answer(user: User | None) -> Response:
    return Response(SessionSerializer({"user": user}, context={"audience": audience_of(user)}).data)
