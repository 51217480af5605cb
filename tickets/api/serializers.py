from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError as ModelValidationError
from rest_framework import serializers

from helpdesk.accounts.api.serializers import PersonField
from helpdesk.accounts.models import User
from helpdesk.api.entities import EntitySerializer
from helpdesk.api.pagination import PageSerializer
from tickets.models import Attachment, Ticket, TicketTag


class TicketSerializer(EntitySerializer):
    """A ticket. Customers choose title, description and priority of a new one; the rest is the agents' work."""

    requester_id = serializers.UUIDField(required=False, help_text="Whoever opens it, unless an agent says who.")
    requester = PersonField()
    assignee_id = serializers.UUIDField(required=False, allow_null=True, help_text="An agent or an administrator.")
    assignee = PersonField(allow_null=True)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=50),
        max_length=100,
        required=False,
        help_text="Lower case, each once, in alphabetical order; at most 20.",
    )

    class Meta:
        model = Ticket
        fields = [
            "id",
            "number",
            "title",
            "description",
            "status",
            "priority",
            "requester_id",
            "requester",
            "assignee_id",
            "assignee",
            "tags",
            "source",
            "external_id",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "number", "source", "external_id", "created_at", "updated_at"]
        staff_reads = ("source", "external_id")
        extra_kwargs = {
            "source": {"help_text": "Where an imported ticket came from; agents and administrators see it."},
            "external_id": {"help_text": "Its id there; agents and administrators see it."},
        }

    @property
    def guarded(self) -> tuple[str, ...]:
        if self.for_staff:
            return ()
        agents_work = ("status", "requester_id", "assignee_id", "tags")
        return agents_work if self.instance._state.adding else (*agents_work, "priority")

    def current(self, name: str) -> Any:
        if name == "tags" and self.instance._state.adding:
            return []
        return super().current(name)

    def validate_tags(self, names: list[str]) -> list[str]:
        try:
            return TicketTag.normalized(names)
        except ModelValidationError as error:
            raise serializers.ValidationError(error.messages) from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        named = {name: attrs.pop(name) for name in ("requester_id", "assignee_id") if name in attrs}
        changed = {name: id_ for name, id_ in named.items() if id_ != self.current(name)}
        people = _active_people({id_ for id_ in changed.values() if id_ is not None})
        for name, id_ in changed.items():
            if id_ is not None and id_ not in people:
                raise serializers.ValidationError({name: ["There is no such active person."]})
            attrs[name.removesuffix("_id")] = people.get(id_)
        return attrs

    def update(self, instance: Ticket, validated_data: dict[str, Any]) -> Ticket:
        tags = validated_data.pop("tags", None)
        super().update(instance, validated_data)
        if tags is not None:
            instance.set_tags(tags)
        return instance


def _active_people(ids: set[UUID]) -> dict[UUID, User]:
    return User.objects.active().in_bulk(ids) if ids else {}


class AttachmentSerializer(EntitySerializer):
    """An attachment. Its bytes are at `download_url`, for whoever may see it."""

    ticket_id = serializers.UUIDField(read_only=True)
    uploaded_by_id = serializers.UUIDField(read_only=True, allow_null=True)
    uploaded_by = PersonField(allow_null=True)
    download_url = serializers.SerializerMethodField(help_text="A path of this site.")

    class Meta:
        model = Attachment
        fields = [
            "id",
            "ticket_id",
            "filename",
            "content_type",
            "size",
            "is_internal",
            "uploaded_by_id",
            "uploaded_by",
            "download_url",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "content_type", "size", "created_at", "updated_at"]

    @property
    def guarded(self) -> tuple[str, ...]:
        return () if self.for_staff else ("is_internal",)

    def get_download_url(self, attachment: Attachment) -> str:
        return f"/api/attachments/{attachment.pk}/download"


class UploadSerializer(AttachmentSerializer):
    """The multipart form of an upload."""

    file = serializers.FileField(allow_empty_file=True, help_text="One file. Its type is found by its first bytes.")

    class Meta(AttachmentSerializer.Meta):
        fields = ["file", "filename", "is_internal"]
        extra_kwargs = {"filename": {"required": False, "help_text": "Instead of the file's own name."}}


class AttachmentPageSerializer(PageSerializer):
    results = AttachmentSerializer(many=True)
