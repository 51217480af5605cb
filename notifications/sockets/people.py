"""Whose connection it is, as the database says now."""

from dataclasses import dataclass, field
from uuid import UUID

from helpdesk.accounts.models import STAFF_ROLES, User
from notifications.sockets.refusal import Refusal
from notifications.stream import STAFF_GROUP, user_group


@dataclass(frozen=True)
class Person:
    id: UUID
    role: str
    name: str
    # Changes when all of the person's tokens and sessions end: with the password, and with a sign-out everywhere.
    sign_in: str = field(default="", repr=False)

    @classmethod
    def of(cls, user: User) -> "Person":
        return cls(user.pk, user.role, user.display_name, user.get_session_auth_hash())

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF_ROLES

    @property
    def groups(self) -> frozenset[str]:
        """The audiences this person belongs to, of what leaves no trace."""
        own = user_group(self.id)
        return frozenset({own, STAFF_GROUP}) if self.is_staff else frozenset({own})

    def as_json(self) -> dict[str, str]:
        """How people appear in what is sent, here as in the API."""
        return {"id": str(self.id), "name": self.name, "role": self.role}


def active_user(user_id: UUID) -> User:
    """The user as stored now; Refusal when they may no longer be here. One query."""
    user = User.objects.active().filter(pk=user_id).first()
    if user is None:
        raise Refusal("account_inactive", "This account has been deactivated.")
    return user
