from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from notifications import catalogue
from notifications.models import EndpointState, Notification, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from notifications.webhooks import endpoint_health


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


TYPE_CHOICES = [(type_, type_) for type_ in catalogue.TYPES]


class RecentSerializer(serializers.Serializer):
    """Of an endpoint's newest deliveries of the last 24 hours (at most 100), those that were tried."""

    deliveries = serializers.IntegerField(source="tried")
    delivered = serializers.IntegerField(help_text="How many of them have arrived.")
    success_rate = serializers.FloatField(allow_null=True, help_text="From 0 to 1; null where none was tried.")
    median_ms = serializers.FloatField(allow_null=True, help_text="Of the attempts that succeeded, each as a whole.")
    p95_ms = serializers.FloatField(allow_null=True)


class EndpointHealthSerializer(serializers.ModelSerializer):
    """How an endpoint is doing."""

    summary = serializers.SerializerMethodField(help_text="The same in plain words.")
    recent = serializers.SerializerMethodField()

    class Meta:
        model = WebhookEndpoint
        fields = [
            "summary",
            "consecutive_failures",
            "failing_since",
            "last_success_at",
            "last_failure",
            "last_failure_at",
            "breaker",
            "breaker_until",
            "recent",
        ]
        read_only_fields = fields

    def get_summary(self, endpoint: WebhookEndpoint) -> str:
        return endpoint_health.sentence(endpoint)

    @extend_schema_field(RecentSerializer)
    def get_recent(self, endpoint: WebhookEndpoint) -> dict[str, Any]:
        return RecentSerializer(endpoint_health.recent_of(endpoint)).data


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string", "nullable": True}})
class HeadersField(serializers.Field):
    """Header names with their values, which are never shown: null stands for one, read and written."""

    default_error_messages = {
        "not_an_object": "This must be an object of header names and values.",
        "not_a_string": "The value of {name} must be a string, or null to keep it as it is.",
    }

    def to_internal_value(self, data: Any) -> dict[str, str | None]:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        for name, value in data.items():
            if not isinstance(value, str | None):
                self.fail("not_a_string", name=ascii(name)[:100])
        return data

    def to_representation(self, value: list[str]) -> dict[str, None]:
        return dict.fromkeys(value)


class WebhookEndpointSerializer(serializers.ModelSerializer):
    """An endpoint without its secret, which is shown once and never again."""

    types = serializers.ListField(
        child=serializers.ChoiceField(choices=TYPE_CHOICES),
        required=False,
        max_length=len(catalogue.TYPES),
        help_text="Notification types it wants; empty means all.",
    )
    state = serializers.ChoiceField(choices=EndpointState.choices, required=False)
    url = serializers.CharField(max_length=2000, trim_whitespace=False)
    headers = HeadersField(
        source="header_names",
        required=False,
        help_text="Of its own, sent with every request. They replace all there were; null keeps a value.",
    )
    health = EndpointHealthSerializer(source="*", read_only=True)

    class Meta:
        model = WebhookEndpoint
        fields = [
            "id",
            "owner_id",
            "url",
            "description",
            "types",
            "headers",
            "is_primary",
            "state",
            "disabled_reason",
            "rate_limit",
            "ordered",
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


class ReceiverCheckSerializer(serializers.Serializer):
    """One thing a receiver must do."""

    code = serializers.CharField()
    question = serializers.CharField()
    passed = serializers.BooleanField()
    answer = serializers.CharField(help_text="What the receiver answered, in plain words.")
    advice = serializers.CharField(help_text="What to change; empty where it passed.")


class EndpointCheckSerializer(serializers.Serializer):
    passed = serializers.BooleanField(help_text="Whether all of them passed.")
    checks = ReceiverCheckSerializer(many=True)


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


class WebhookTypeSerializer(serializers.Serializer):
    """A notification type."""

    type = serializers.CharField()
    related_type = serializers.CharField(help_text="What `related_id` and `data` are.")
    description = serializers.CharField()
    recipients = serializers.CharField(help_text="Who is notified.")
    message = serializers.CharField(help_text="Words in `%(…)s` are filled in.")


class WebhookTypeListSerializer(serializers.Serializer):
    results = WebhookTypeSerializer(many=True)


class WebhookExampleSerializer(WebhookTypeSerializer):
    """A notification type with the body of a webhook of it."""

    example = serializers.DictField(help_text="A whole body, as the caller would get it. What it speaks of is made up.")


class WebhookTestSerializer(serializers.Serializer):
    type = serializers.ChoiceField(
        choices=TYPE_CHOICES,
        default=catalogue.WEBHOOK_TEST,
        help_text="Another type sends its example, marked as a test.",
    )
