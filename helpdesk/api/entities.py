"""Entities as JSON: one serializer for what is read, what is written and what notifications carry."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError as ModelValidationError
from rest_framework import serializers

from helpdesk.api.errors import Forbidden

STAFF, CUSTOMER = "staff", "customer"


def audience_of(user: Any) -> str:
    """Which of the two forms of an entity this person gets."""
    return STAFF if getattr(user, "is_agent_or_admin", False) else CUSTOMER


class EntitySerializer(serializers.ModelSerializer):
    """A model as the API shows and takes it.

    `context["audience"]` is "staff" or "customer" (the safe side, when nobody says); no request is needed, so the
    same JSON is frozen with an event. `Meta.staff_reads` names fields that customers do not get, `guarded` those
    that the caller may not change. Read-only fields in a body are ignored, since people send back what they
    got; names nobody knows are refused, since they are mistakes.

    To create, pass an unsaved instance: creating and changing are then the same code.
    """

    instance: Any

    class Meta:
        staff_reads: tuple[str, ...] = ()

    @property
    def for_staff(self) -> bool:
        return self.context.get("audience") == STAFF

    @property
    def guarded(self) -> tuple[str, ...]:
        """Names of fields that the caller may not change; giving the value they have is no offence."""
        return ()

    def current(self, name: str) -> Any:
        return getattr(self.instance, name)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        data = super().to_representation(instance)
        if not self.for_staff:
            for name in getattr(self.Meta, "staff_reads", ()):
                data.pop(name, None)
        return data

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [str(name)[:100] for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError({name: ["Unknown field."] for name in unknown[:20]})
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refused = [name for name in self.guarded if name in attrs and attrs[name] != self.current(name)]
        if refused:
            raise Forbidden(
                f"You may not set: {', '.join(refused)}.", {name: ["You may not set this."] for name in refused}
            )
        return attrs

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        self.check(instance)
        instance.save()
        return instance

    def check(self, instance: Any) -> None:
        """The model's own rules, told by the names that the API uses."""
        try:
            instance.clean()
        except ModelValidationError as error:
            raise serializers.ValidationError(
                {
                    (f"{name}_id" if f"{name}_id" in self.fields else name): messages
                    for name, messages in error.message_dict.items()
                }
            ) from None
