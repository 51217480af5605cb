from rest_framework import serializers

from notifications import catalogue
from notifications.models import EndpointState, Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint


class NotificationSerializer(serializers.ModelSerializer):
    class Meta:
        model = Notification
        fields = ["id", "type", "message", "related_id", "related_type", "created_at", "read_at"]
        read_only_fields = fields


class UnreadCountSerializer(serializers.Serializer):
    unread = serializers.IntegerField(help_text="Notifications that have not been read.")


class WebhookUrlSerializer(serializers.Serializer):
    """The one URL behind /api/users/me/webhook."""

    webhook_url = serializers.CharField(
        max_length=2000,
        trim_whitespace=False,
        help_text="An absolute URL of your application, or the path of a receiver of this one.",
    )


class WebhookUrlAnswerSerializer(serializers.Serializer):
    webhook_url = serializers.CharField(allow_null=True)
    secret = serializers.CharField(
        required=False, help_text="Signs your webhooks (`whsec_…`). Shown only when it is new: keep it."
    )


class EndpointHealthSerializer(serializers.ModelSerializer):
    """How an endpoint is doing."""

    class Meta:
        model = WebhookEndpoint
        fields = ["consecutive_failures", "failing_since", "last_success_at", "last_failure"]
        read_only_fields = fields


class WebhookEndpointSerializer(serializers.ModelSerializer):
    """An endpoint without its secret, which is shown once and never again."""

    types = serializers.ListField(
        child=serializers.ChoiceField(choices=[(type_, type_) for type_ in catalogue.TYPES]),
        required=False,
        max_length=len(catalogue.TYPES),
        help_text="Notification types it wants; empty means all.",
    )
    state = serializers.ChoiceField(choices=EndpointState.choices, required=False)
    url = serializers.CharField(max_length=2000, trim_whitespace=False)
    health = EndpointHealthSerializer(source="*", read_only=True)

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "owner_id",
            "url",
            "description",
            "types",
            "is_primary",
            "state",
            "disabled_reason",
            "health",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "owner_id", "is_primary", "disabled_reason", "created_at", "updated_at"]

    def validate_state(self, state: str) -> str:
        if state == EndpointState.DISABLED:
            raise serializers.ValidationError("Only the system disables an endpoint; pause it instead.")
        return state

    def validate_types(self, types: list[str]) -> list[str]:
        return sorted(set(types), key=catalogue.TYPES.index)


class NewEndpointSerializer(WebhookEndpointSerializer):
    """An endpoint together with its secret, in the one answer that shows it."""

    secret = serializers.CharField(read_only=True, required=False)

    class Meta(WebhookEndpointSerializer.Meta):
        fields = [*WebhookEndpointSerializer.Meta.fields, "secret"]


class WebhookAttemptSerializer(serializers.ModelSerializer):
    status = serializers.IntegerField(
        source="status_code", read_only=True, allow_null=True, help_text="Of the HTTP answer; null where none came."
    )

    class Meta:
        model = WebhookAttempt
        fields = [
            "id",
            "number",
            "started_at",
            "succeeded",
            "status",
            "error_code",
            "diagnosis",
            "address",
            "dns_ms",
            "connect_ms",
            "tls_ms",
            "first_byte_ms",
            "total_ms",
            "response_head",
            "response_body",
        ]
        read_only_fields = fields


class WebhookDeliverySerializer(serializers.ModelSerializer):
    webhook_id = serializers.CharField(source="message_id", read_only=True)
    notification = NotificationSerializer(read_only=True)

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "webhook_id",
            "endpoint_id",
            "state",
            "state_reason",
            "attempt_count",
            "next_attempt_at",
            "created_at",
            "delivered_at",
            "notification",
        ]
        read_only_fields = fields


class WebhookDeliveryDetailSerializer(WebhookDeliverySerializer):
    attempts = WebhookAttemptSerializer(many=True, read_only=True)

    class Meta(WebhookDeliverySerializer.Meta):
        fields = [*WebhookDeliverySerializer.Meta.fields, "attempts"]


class RecoverSerializer(serializers.Serializer):
    since = serializers.DateTimeField(help_text="Deliveries created since then that did not arrive are sent again.")


class CountSerializer(serializers.Serializer):
    count = serializers.IntegerField(help_text="How many deliveries will be sent again.")


class ReceivedSerializer(serializers.Serializer):
    status = serializers.CharField(default="received")


class FeedEventSerializer(serializers.Serializer):
    """One event as the sockets send it: `ticket.update`, `notification`, …"""

    event = serializers.CharField()
    cursor = serializers.IntegerField()


class FeedSerializer(serializers.Serializer):
    results = FeedEventSerializer(many=True)
    next = serializers.CharField(allow_null=True)
    cursor = serializers.IntegerField(help_text="Ask again with `after` this.")
