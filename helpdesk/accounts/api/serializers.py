"""People as JSON, and what people may say about themselves."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError as ModelValidationError
from django.db.models import Value
from django.db.models.functions import Lower
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from helpdesk.accounts.models import Role, User
from helpdesk.api.entities import EntitySerializer
from helpdesk.changes.text import validate_line

# Far above any pass phrase; keeps the price of hashing one bounded.
MAX_PASSWORD = 1024


class PersonSerializer(serializers.Serializer):
    """A person as they appear beside what they wrote, requested or were given."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices)


@extend_schema_field(PersonSerializer)
class PersonField(serializers.Field):
    """`{id, name, role}` of a related user, so that customers need no user list."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: User) -> dict[str, str]:
        return {"id": str(value.pk), "name": value.display_name, "role": value.role}


class UserSerializer(EntitySerializer):
    """A person, for administrators and for themselves."""

    password = serializers.CharField(
        write_only=True,
        required=False,
        max_length=MAX_PASSWORD,
        trim_whitespace=False,
        help_text="A new password ends all sessions and tokens of the person.",
    )

    class Meta:
        model = User
        fields = [
            "id",
            "username",
            "email",
            "name",
            "role",
            "is_active",
            "password",
            "deactivated_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "deactivated_at", "created_at", "updated_at"]
        extra_kwargs = {
            # Uniqueness is checked below, in any letter case.
            "username": {"validators": [UnicodeUsernameValidator()]},
            "name": {"validators": [validate_line]},
        }

    def validate_username(self, username: str) -> str:
        username = User.normalize_username(username)
        if self._taken("username", username):
            raise serializers.ValidationError("A person with that username exists already.", code="unique")
        return username

    def validate_email(self, email: str) -> str:
        email = User.objects.normalize_email(email)
        if email and self._taken("email", email):
            raise serializers.ValidationError("A person with that e-mail address exists already.", code="unique")
        return email

    def _taken(self, field: str, value: str) -> bool:
        others = User.objects.alias(lowered=Lower(field)).filter(lowered=Lower(Value(value)))
        return others.exclude(pk=self.instance.pk if self.instance else None).exists()

    def update(self, instance: User, validated_data: dict[str, Any]) -> User:
        password = validated_data.pop("password", None)
        if "email" in validated_data and "username" not in validated_data:
            self._follow(instance, validated_data)
        for name, value in validated_data.items():
            setattr(instance, name, value)
        if password is not None:
            try:
                validate_password(password, instance)
            except ModelValidationError as error:
                raise serializers.ValidationError({"password": error.messages}) from None
            instance.set_password(password)
        elif not instance.password:
            instance.set_unusable_password()
        return super().update(instance, validated_data)

    def _follow(self, instance: User, validated_data: dict[str, Any]) -> None:
        """A username that is the person's e-mail address goes with it."""
        email = validated_data["email"]
        if email and "@" in instance.username and instance.username.lower() == instance.email.lower():
            try:
                validated_data["username"] = self.fields["username"].run_validation(email)
            except serializers.ValidationError:
                message = "Your username is your e-mail address, and this one cannot be a username."
                raise serializers.ValidationError({"email": [message]}) from None


class NewUserSerializer(UserSerializer):
    """A person whom an administrator adds. Without a password they cannot sign in until they are given one."""


class ProfileSerializer(UserSerializer):
    """One's own account. Role and username are an administrator's business."""

    current_password = serializers.CharField(
        write_only=True,
        required=False,
        max_length=MAX_PASSWORD,
        trim_whitespace=False,
        help_text="Needed to set a new password.",
    )

    class Meta(UserSerializer.Meta):
        fields = [*UserSerializer.Meta.fields, "current_password"]

    @property
    def guarded(self) -> tuple[str, ...]:
        return ("username", "role", "is_active")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        current = attrs.pop("current_password", None)
        if "password" in attrs and not self.instance.check_password(current or ""):
            message = "This is not your current password." if current else "Give your current password."
            raise serializers.ValidationError({"current_password": [message]})
        return attrs


class RegistrationSerializer(UserSerializer):
    """A customer who signs up."""

    class Meta(UserSerializer.Meta):
        fields = ["username", "email", "name", "password"]
        extra_kwargs = {
            **UserSerializer.Meta.extra_kwargs,
            "email": {"required": True, "allow_blank": False},
        }

    password = serializers.CharField(write_only=True, max_length=MAX_PASSWORD, trim_whitespace=False)


class CredentialsSerializer(serializers.Serializer):
    """Username or e-mail address, in either of two fields, and the password."""

    username = serializers.CharField(required=False, max_length=254, help_text="The e-mail address will do too.")
    email = serializers.CharField(required=False, max_length=254)
    password = serializers.CharField(write_only=True, max_length=MAX_PASSWORD, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        login = attrs.get("username") or attrs.get("email")
        if not login:
            raise serializers.ValidationError({"username": ["Give a username or an e-mail address."]})
        return {"login": User.normalize_username(login), "password": attrs["password"]}


class RefreshSerializer(serializers.Serializer):
    refresh = serializers.CharField(max_length=4096)


class TokensSerializer(serializers.Serializer):
    access = serializers.CharField(help_text="Send it as `Authorization: Bearer …`.")
    refresh = serializers.CharField(help_text="Good for one new pair.")


class SessionSerializer(serializers.Serializer):
    user = UserSerializer(read_only=True, allow_null=True, help_text="Who is signed in; null for nobody.")
