"""Access and refresh tokens. A refresh token is good for one new pair; what is ended stays ended."""

from django.contrib.auth import authenticate
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken, TokenError
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

from helpdesk.accounts.api.serializers import CredentialsSerializer, RefreshSerializer, TokensSerializer
from helpdesk.accounts.authentication import EPOCH_CLAIM, TokenAuthentication, caller
from helpdesk.accounts.models import User


def sign_in(request: Request) -> User:
    """The person whose username or e-mail address and password the body holds.

    401 in the same words and, because Django hashes the password either way, in about the same time, whether the
    person is unknown, deactivated or gave a wrong password.
    """
    serializer = CredentialsSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    data = serializer.validated_data
    user = authenticate(request._request, username=data["login"], password=data["password"])
    if user is None:
        raise AuthenticationFailed(
            "The username or the password is wrong, or the account is not active.", code="invalid_credentials"
        )
    return user


def new_pair(user: User) -> dict[str, str]:
    refresh = RefreshToken.for_user(user)
    refresh[EPOCH_CLAIM] = user.sign_in_epoch
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


def _taken_back(text: str) -> RefreshToken:
    """The refresh token in `text`, blacklisted by this call; InvalidToken if it is not good any more.

    Must run in a transaction: the token's row is locked, so that of two who use it at once one comes too late.
    """
    try:
        jti = RefreshToken(text)["jti"]  # type: ignore[arg-type]
        OutstandingToken.objects.select_for_update().filter(jti=jti).order_by("pk").first()
        token = RefreshToken(text)  # type: ignore[arg-type]
    except TokenError as error:
        raise InvalidToken(str(error.args[0])) from None
    token.blacklist()
    return token


class PublicView(APIView):
    """For everyone: what a stale token says in the Authorization header does not matter here."""

    authentication_classes: list = []
    permission_classes = [AllowAny]

    def get_authenticate_header(self, request: Request) -> str:
        # Without authenticators REST framework would turn 401 into 403.
        return JWTAuthentication().authenticate_header(request)


class TokenView(PublicView):
    throttle_scope = "sign-in"

    @extend_schema(
        operation_id="auth_token", request=CredentialsSerializer, responses=TokensSerializer, auth=[], tags=["auth"]
    )
    def post(self, request: Request) -> Response:
        """Sign in: a username or an e-mail address with the password gives an access and a refresh token."""
        return Response(new_pair(sign_in(request)))


class TokenRefreshView(PublicView):
    @extend_schema(
        operation_id="auth_token_refresh",
        request=RefreshSerializer,
        responses=TokensSerializer,
        auth=[],
        tags=["auth"],
    )
    def post(self, request: Request) -> Response:
        """A new pair for a refresh token, which is then used up."""
        serializer = RefreshSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            token = _taken_back(serializer.validated_data["refresh"])
            # The same checks as for an access token: active, with the same password, not signed out since.
            pair = new_pair(TokenAuthentication().get_user(token))
        return Response(pair)


class LogoutView(PublicView):
    @extend_schema(operation_id="auth_logout", request=RefreshSerializer, responses={204: None}, auth=[], tags=["auth"])
    def post(self, request: Request) -> Response:
        """End a refresh token. The access token made with it lives on until it expires, minutes later."""
        serializer = RefreshSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with transaction.atomic():
            _taken_back(serializer.validated_data["refresh"])
        return Response(status=204)


class LogoutEverywhereView(APIView):
    @extend_schema(operation_id="auth_logout_everywhere", request=None, responses={204: None}, tags=["auth"])
    def post(self, request: Request) -> Response:
        """End every token and every session of one's own at once, this one too; their sockets close."""
        caller(request).sign_out_everywhere()
        return Response(status=204)
