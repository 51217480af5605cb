"""Breaker, rate limit and order: what the claim knows of an endpoint, and the ticket of each delivery."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def fill_tickets(apps, schema_editor):
    """Only what is still to be sent: the rest has no place in any order."""
    notification = apps.get_model("notifications", "Notification")
    ticket = notification.objects.filter(pk=models.OuterRef("notification_id")).values("event__ticket_id")[:1]
    undone = ("pending", "sending", "retrying", "held")
    apps.get_model("notifications", "WebhookDelivery").objects.filter(state__in=undone).update(
        ticket_id=models.Subquery(ticket)
    )


class Migration(migrations.Migration):

    dependencies = [
        ('notifications', '0002_event_stream'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='webhookdelivery',
            name='ticket_id',
            field=models.UUIDField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='breaker_failures',
            field=models.PositiveIntegerField(default=0, editable=False, help_text='In a row, of the kind that opens the breaker.'),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='breaker_limit',
            field=models.PositiveSmallIntegerField(default=1, editable=False),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='breaker_openings',
            field=models.PositiveIntegerField(default=0, editable=False, help_text='How often it has opened since it was last closed.'),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='holding',
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='ordered',
            field=models.BooleanField(default=False, help_text='Webhooks of one ticket in order: each waits until the one before has arrived or was given up.'),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='paced_until',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='webhookendpoint',
            name='rate_limit',
            field=models.PositiveIntegerField(blank=True, help_text='Attempts per second at most; empty means no limit.', null=True, validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)]),
        ),
        migrations.AlterField(
            model_name='webhookattempt',
            name='delivery',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='attempts', to='notifications.webhookdelivery'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='endpoint',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='deliveries', to='notifications.webhookendpoint'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('state__in', ['pending', 'sending', 'retrying', 'held'])), fields=['endpoint', 'ticket_id'], name='delivery_undone'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('state', 'held')), fields=['endpoint', 'priority', 'id'], name='delivery_held'),
        ),
        migrations.AddIndex(
            model_name='webhookendpoint',
            index=models.Index(condition=models.Q(('breaker__in', ['open', 'half_open']), ('rate_limit__isnull', False), ('ordered', True), _connector='OR'), fields=['id'], name='endpoint_gated'),
        ),
        migrations.AddIndex(
            model_name='webhookendpoint',
            index=models.Index(condition=models.Q(('holding', True)), fields=['id'], name='endpoint_holding'),
        ),
        migrations.RunPython(fill_tickets, migrations.RunPython.noop),
    ]
