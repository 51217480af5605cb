from typing import Any

from rest_framework import serializers

from comments.models import Comment
from helpdesk.accounts.api.serializers import PersonField
from helpdesk.api.entities import EntitySerializer
from helpdesk.api.pagination import PageSerializer


class CommentSerializer(EntitySerializer):
    """A comment. Its ticket and the comment it replies to are chosen once, when it is written."""

    ticket_id = serializers.UUIDField(required=False)
    parent_id = serializers.UUIDField(required=False, allow_null=True, help_text="The comment this one replies to.")
    author_id = serializers.UUIDField(read_only=True, allow_null=True)
    author = PersonField(allow_null=True)

    class Meta:
        model = Comment
        fields = [
            "id",
            "ticket_id",
            "parent_id",
            "author_id",
            "author",
            "content",
            "is_internal",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "created_at", "updated_at"]

    @property
    def guarded(self) -> tuple[str, ...]:
        return () if self.for_staff else ("is_internal",)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        if not self.instance._state.adding:
            moved = [name for name in ("ticket_id", "parent_id") if name in attrs and attrs[name] != self.current(name)]
            if moved:
                raise serializers.ValidationError({name: ["This cannot be changed."] for name in moved})
        return attrs


class CommentPageSerializer(PageSerializer):
    results = CommentSerializer(many=True)
