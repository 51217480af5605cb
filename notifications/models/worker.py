from django.db import models


class Worker(models.Model):
    """One worker process: a row that it writes every few seconds, and deletes when it stops as it should."""

    name = models.CharField(max_length=120, primary_key=True, help_text="Its machine and process: host:pid.")
    version = models.CharField(max_length=20)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField(help_text="The last sign of life.")
    swept_at = models.DateTimeField(null=True, blank=True, help_text="The last time the clock reached it.")
    in_flight = models.PositiveIntegerField(default=0, help_text="Webhooks that it is sending.")
    concurrency = models.PositiveIntegerField(default=0, help_text="Webhooks that it sends at once, at most.")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Statistic(models.Model):
    """A counter of what workers did, for /metrics. Written by `notifications.webhooks.statistics` alone."""

    metric = models.CharField(max_length=60)
    label = models.CharField(max_length=40, help_text="The outcome, or the upper bound of a bucket.")
    value = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["metric", "label"], name="one_row_per_statistic")]

    def __str__(self) -> str:
        return f"{self.metric} {self.label}: {self.value:g}"
