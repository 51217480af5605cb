"""What must be so before anything is started: a database with every migration, a broker, someone to sign in as."""

from collections.abc import Iterator

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from helpdesk.accounts.models import User
from helpdesk.management.demo.seeding import seed
from helpdesk.management.diagnosis.deployment import broker
from notifications.webhooks.queue import give_back_expired


def prepare() -> Iterator[str]:
    """Do it, and say each thing that was done. CommandError when the database or the broker does not answer."""
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except OperationalError as error:
        raise CommandError(
            f"The database does not answer: {str(error).strip().splitlines()[0]} (DATABASE_URL says which one)"
        ) from None
    found = broker()
    if not found.ok:
        raise CommandError(f"The broker: {found.detail} (REDIS_URL or CELERY_BROKER_URL says which one)")
    if missing:
        call_command("migrate", verbosity=0, interactive=False)
        yield f"Database: {missing} migrations applied."
    # A broker in our own folder has no worker but ours: whatever is being sent was being sent by one that died.
    if settings.CELERY_BROKER_URL.startswith("filesystem:") and (count := give_back_expired(nobody_is_sending=True)):
        yield f"Webhooks: {count} that were cut off are sent again."
    # Demo accounts have a password that everybody knows.
    if not settings.PRODUCTION and not User.objects.exists():
        yield f"Demo data: {seed()}."
