"""Have PostgreSQL clean up after the queue sooner than it does by itself.

Each delivery changes its row twice and each event once, and what is left behind lies at the beginning of the very
indexes that the next claim starts from. By default a table of a million rows is cleaned after 200,000 such changes, and
looked at anew by the planner after 100,000.
"""

from django.db import migrations

TABLES = ("notifications_webhookdelivery", "notifications_event")
SETTINGS = {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_analyze_scale_factor": 0.02}


def vacuum_often(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            settings = ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
            schema_editor.execute(f"ALTER TABLE {table} SET ({settings})")


def vacuum_as_usual(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} RESET ({', '.join(SETTINGS)})")


class Migration(migrations.Migration):
    dependencies = [("notifications", "0007_stopped_gates")]
    operations = [migrations.RunPython(vacuum_often, vacuum_as_usual)]
