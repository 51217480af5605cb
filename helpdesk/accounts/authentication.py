"""Who a request comes from, and what a role may do in the admin."""

from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from rest_framework.authentication import SessionAuthentication as BaseSessionAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import AuthenticationFailed
from rest_framework_simplejwt.tokens import Token

from helpdesk.accounts.models import Role, User
from helpdesk.changes.actor import set_actor

# The claim that holds the epoch of a sign-in (`User.sign_in_epoch`); tokens without it are of epoch 0.
EPOCH_CLAIM = "epoch"

# What agents may do in the admin, model by model; administrators may do everything, customers never get in.
AGENT_PERMISSIONS = frozenset(
    {
        *(f"tickets.{verb}_ticket" for verb in ("view", "add", "change", "delete")),
        *(f"tickets.{verb}_attachment" for verb in ("view", "add", "change", "delete")),
        *(f"comments.{verb}_comment" for verb in ("view", "add", "change", "delete")),
        *(f"knowledge.{verb}_article" for verb in ("view", "add", "change", "delete")),
        "notifications.view_notification",
        # Their own: `visible_to` shows no others.
        *(f"notifications.{verb}_webhookendpoint" for verb in ("view", "add", "change", "delete")),
        "notifications.view_webhookdelivery",
        *(f"notifications.{verb}_webhookrecovery" for verb in ("view", "add")),
    }
)


def caller(request: Any) -> User:
    """The person who makes this request. Only where the permission classes let nobody else through."""
    return request.user


def sign_out_another(request: HttpRequest, user: Any) -> None:
    """Before `user` signs in: end the session of somebody else in this browser, and with it what it has opened.

    Django's `login` would only forget it.
    """
    if request.user.is_authenticated and request.user.pk != user.pk:
        logout(request)


class RoleBackend(ModelBackend):
    """Username or e-mail with a password; permissions follow from the role, not from groups."""

    def user_can_authenticate(self, user: Any) -> bool:
        return bool(user.is_active)

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        if not getattr(user_obj, "is_active", False):
            return False
        if user_obj.role == Role.ADMIN:
            return True
        return user_obj.role == Role.AGENT and perm in AGENT_PERMISSIONS

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        if getattr(user_obj, "role", None) == Role.AGENT and user_obj.is_active:
            return set(AGENT_PERMISSIONS)
        return set()

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        if getattr(user_obj, "role", None) == Role.ADMIN:
            return bool(user_obj.is_active)
        return any(perm.startswith(f"{app_label}.") for perm in self.get_all_permissions(user_obj))


class TokenAuthentication(JWTAuthentication):
    """`Authorization: Bearer <access token>`. Whoever signs in so is the actor of the request."""

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        found = super().authenticate(request)
        if found is not None:
            set_actor(found[0], by_token=True)
        return found

    def get_user(self, validated_token: Token) -> Any:
        """The token's person; AuthenticationFailed unless they are active, with the password and epoch of its time."""
        user: Any = super().get_user(validated_token)
        if validated_token.get(EPOCH_CLAIM, 0) != user.sign_in_epoch:
            raise AuthenticationFailed("The person has been signed out since.", code="signed_out")
        return user


class SessionAuthentication(BaseSessionAuthentication):
    """The session of a signed-in browser, with CSRF. Answers 401 rather than 403 when nobody is signed in."""

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'
