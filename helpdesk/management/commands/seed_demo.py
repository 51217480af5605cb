from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from helpdesk.management.demo.people import ACCOUNTS, PASSWORD
from helpdesk.management.demo.seeding import NamesTaken, has_demo_data, seed


class Command(BaseCommand):
    help = "Write the demo data: people, tickets with their conversations, articles. A second run adds nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("Not in production: everybody knows the password of the demo accounts.")
        if has_demo_data():
            self.stdout.write("The demo data is here already; nothing was added.")
            return
        try:
            summary = seed()
        except NamesTaken as error:
            raise CommandError(
                f"Nothing was added: the demo data needs the names of people who exist: {error}."
            ) from None
        self.stdout.write(f"Added {summary}.")
        self.stdout.write(f"Sign in as {', '.join(ACCOUNTS)}; the password is {PASSWORD}")
