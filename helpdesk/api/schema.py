"""The OpenAPI document: what every operation has in common."""

import re
from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers


@extend_schema_serializer(component_name="ErrorDetail")
class _ErrorDetailSerializer(serializers.Serializer):
    code = serializers.CharField(help_text="For programs; it stays the same.")
    message = serializers.CharField(help_text="For people.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        help_text="What was wrong, field by field; empty where no field is to blame.",
    )


class ErrorSerializer(serializers.Serializer):
    """Every error there is."""

    error = _ErrorDetailSerializer()


# Where a method says nothing of its own, the view's docstring names the thing: "One comment." is changed by PATCH.
_VERBS = {"PATCH": "Change", "DELETE": "Delete"}


class Schema(AutoSchema):
    """Adds the one error shape to every operation, and a summary: the first sentence of its description."""

    def get_summary(self) -> str | None:
        sentence = re.split(r"\.\s|\.$|\n\n", self.get_description() or "", maxsplit=1)[0]
        summary = " ".join(sentence.replace("`", "").split())  # summaries are plain text
        if (verb := _VERBS.get(self.method)) and summary.startswith("One "):
            summary = f"{verb} {summary[:1].lower()}{summary[1:]}"
        return summary or None

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies = super()._get_response_bodies(direction)
        error = self._get_response_for_code(ErrorSerializer, "default", ["application/json"], direction)
        return {**bodies, "default": {**error, "description": "Any error, in the one shape."}}
