from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0003_breaker_and_order")]

    operations = [
        migrations.AddField("webhookendpoint", "header_names", models.JSONField(blank=True, default=list, editable=False)),
        migrations.AddField("webhookendpoint", "encrypted_header_values", models.TextField(blank=True, editable=False)),
        migrations.AddField(
            "webhookendpoint", "last_failure_at", models.DateTimeField(blank=True, editable=False, null=True)
        ),
    ]
