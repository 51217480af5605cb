"""The stream's one row, and on PostgreSQL the bell that rings when events are committed.

The bell is a trigger, so that it rings whichever process wrote the event, and only when its transaction commits
(NOTIFY is delivered at commit). It costs the writer no statement.
"""

from django.db import migrations

TRIGGER = """
CREATE FUNCTION notifications_ring_publisher() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('helpdesk_events', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notifications_event_bell AFTER INSERT ON notifications_event
    FOR EACH STATEMENT EXECUTE FUNCTION notifications_ring_publisher();
"""


def forwards(apps, schema_editor):
    apps.get_model("notifications", "EventStream").objects.create(id=1)
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(TRIGGER)


def backwards(apps, schema_editor):
    apps.get_model("notifications", "EventStream").objects.all().delete()
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER notifications_event_bell ON notifications_event")
        schema_editor.execute("DROP FUNCTION notifications_ring_publisher()")


class Migration(migrations.Migration):
    dependencies = [("notifications", "0001_initial")]
    operations = [migrations.RunPython(forwards, backwards)]
