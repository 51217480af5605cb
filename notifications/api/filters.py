from django_filters import rest_framework as filters

from helpdesk.api.filters import MomentFilter
from notifications import catalogue
from notifications.models import DeliveryState, WebhookDelivery


class DeliveryFilter(filters.FilterSet):
    state = filters.MultipleChoiceFilter(
        choices=DeliveryState.choices, distinct=False, help_text="Any of these; repeat it for more than one."
    )
    type = filters.MultipleChoiceFilter(
        field_name="notification__type",
        choices=[(type_, type_) for type_ in catalogue.TYPES],
        distinct=False,
        help_text="Of the notification: any of these.",
    )
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte", help_text="At this time or later.")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt", help_text="Before this time.")

    class Meta:
        model = WebhookDelivery
        fields: list[str] = []
