"""Where ticket numbers come from: a sequence on PostgreSQL, a one-row table on SQLite (see tickets/numbers.py)."""

from django.db import migrations

SEQUENCE = "tickets_ticket_number"


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"CREATE SEQUENCE {SEQUENCE}")
    else:
        schema_editor.execute(f"CREATE TABLE {SEQUENCE} (last integer NOT NULL)")
        schema_editor.execute(f"INSERT INTO {SEQUENCE} (last) VALUES (0)")


def drop(apps, schema_editor):
    kind = "SEQUENCE" if schema_editor.connection.vendor == "postgresql" else "TABLE"
    schema_editor.execute(f"DROP {kind} {SEQUENCE}")


class Migration(migrations.Migration):
    dependencies = [("tickets", "0001_initial")]
    operations = [migrations.RunPython(create, drop)]
