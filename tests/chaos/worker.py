"""Real worker processes that do one thing each, and can be made to die at a point.

`python -m tests.chaos.worker` loads the application once and forks a process for each line of JSON on standard input,
a list of words; it answers with the exit code and what the process had to say, on one line each.

`migrate`: makes the tables.
`die POINT URL COUNT`: writes COUNT deliveries to URL and works on them until it dies, without a word, at POINT.
`work [--without-sweeper]`: what the next worker does, after the time that leases last; tells the states.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django

KILLED = 9


def die(*args: Any, **kwargs: Any) -> None:
    """As `kill -9` does: no handler runs, nothing is flushed, no transaction ends well."""
    os._exit(KILLED)


def points() -> dict[str, tuple[object, str, Callable]]:
    """Where a worker can die: the function, and what stands in its place."""
    from notifications import expansion
    from notifications.webhooks import breaker, gates, outcomes, queue, recovery, sending

    def after(function: Callable) -> Callable:
        def instead(*args: Any, **kwargs: Any) -> None:
            function(*args, **kwargs)
            die()

        return instead

    return {
        "claiming, not committed": (gates.Gates, "close", die),
        "claimed, not loaded": (queue, "load", die),
        "claimed, not sent": (sending, "send", die),
        "sent, answer not taken in": (sending, "send", after(sending.send)),
        "sent, not recorded": (outcomes, "record", die),
        "recording, not committed": (outcomes, "_record_health", after(outcomes._record_health)),
        "recorded, not yet gone on": (outcomes, "record", _after_the_first(outcomes.record)),
        "gave back, not yet gone on": (queue, "give_back_expired", after(queue.give_back_expired)),
        "failure recorded, not committed": (outcomes, "_record_failures", after(outcomes._record_failures)),
        "released, not yet claimed": (gates, "release", after(gates.release)),
        "half open, not yet probed": (breaker, "half_open_due", after(breaker.half_open_due)),
        "audience told, not committed": (expansion, "_tell", after(expansion._tell)),
        "audience told, not gone on": (expansion, "expand_next_batch", after(expansion.expand_next_batch)),
        "slice redelivered, not committed": (queue, "redeliver", after(queue.redeliver)),
        "slice redelivered, not gone on": (recovery, "release", after(recovery.release)),
    }


def _after_the_first(record: Callable) -> Callable:
    """Die when something was recorded; the loop records nothing now and then."""

    def instead(results: list) -> None:
        record(results)
        if results:
            die()

    return instead


def write(url: str, count: int) -> None:
    from comments.models import Comment
    from helpdesk.accounts.models import User
    from helpdesk.changes.actor import acting_as
    from helpdesk.changes.identifiers import uuid7
    from notifications.webhooks import endpoints
    from tickets.models import Ticket

    name = uuid7().hex
    admin = User.objects.create_user(f"admin-{name}", role="admin", password="x")
    customer = User.objects.create_user(name, password="x")
    endpoints.create(customer, url)
    with acting_as(admin):
        ticket = Ticket.objects.create(title="Under fire", description="x", requester=customer)
        for number in range(count):
            Comment(ticket=ticket, author=admin, content=f"Comment {number}").post()


def announce(url: str, count: int) -> None:
    """An article for many, who are told two at a time: by the worker, each with a webhook."""
    from django.conf import settings
    from django.utils import timezone

    from helpdesk.accounts.models import User
    from helpdesk.changes.actor import acting_as
    from helpdesk.changes.identifiers import uuid7
    from knowledge.models import Article
    from notifications.models import WebhookEndpoint
    from notifications.webhooks import endpoints

    settings.AUDIENCE_IN_TRANSACTION = 0
    WebhookEndpoint.objects.update(deleted_at=timezone.now())  # of other tests, whose receivers are gone
    for _ in range(count):
        endpoints.create(User.objects.create_user(uuid7().hex, password="x"), url)
    admin = User.objects.create_user(f"admin-{uuid7().hex}", role="admin", password="x")
    with acting_as(admin):
        Article.objects.create(title="Printers", body="All about them.", author=admin, status="published")


def tell() -> None:
    from notifications import expansion

    while expansion.expand_next_batch(size=2):
        pass


def recover(url: str) -> None:
    """Everything was given up for a receiver that takes it now; its owner wants it, two at a time."""
    from django.utils import timezone

    from notifications.models import WebhookDelivery, WebhookEndpoint
    from notifications.webhooks import recovery

    endpoint = WebhookEndpoint.objects.get(url=url)
    WebhookDelivery.objects.filter(endpoint=endpoint).update(state="exhausted", next_attempt_at=None)
    recovery.AT_ONCE = 2
    now = timezone.now()
    recovery.start(endpoint, recovery.Span(now - timedelta(hours=1), now + timedelta(hours=1)), per_minute=6_000)


def hold(url: str, *, is_open: bool) -> None:
    """Have everything held for a receiver that takes it now: its owner had paused it, or its breaker was open."""
    from django.utils import timezone

    from notifications.models import WebhookDelivery, WebhookEndpoint
    from notifications.webhooks import endpoints

    endpoint = WebhookEndpoint.objects.get(url=url)
    endpoints.pause(endpoint)
    assert not WebhookDelivery.objects.filter(endpoint=endpoint).exclude(state="held").exists()
    if is_open:
        past = timezone.now() - timedelta(seconds=1)
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
            state="active", holding=True, breaker="open", breaker_until=past
        )
    else:
        endpoints.resume(endpoint)


def run(how: str, *arguments: str) -> object:
    from django.core.management import call_command
    from django.utils import timezone

    from notifications.models import WebhookDelivery
    from notifications.webhooks import queue, recovery
    from notifications.webhooks.engine import Engine

    sending = WebhookDelivery.objects.filter(state="sending")
    a_second_ago = timezone.now() - timedelta(seconds=1)
    if how == "migrate":
        call_command("migrate", verbosity=0)
    elif how == "die":
        point, url, count = arguments
        (announce if point.startswith("audience") else write)(url, int(count))
        if point.startswith("gave back"):
            undone = WebhookDelivery.objects.exclude(state="delivered")
            undone.update(state="sending", next_attempt_at=None, lease_until=a_second_ago)
        if point.startswith(("released", "half open")):
            hold(url, is_open=point.startswith("half open"))
        setattr(*points()[point])
        if point.startswith("audience"):
            tell()
        if point.startswith("slice"):
            recover(url)
        Engine(linger=0).run()
    else:
        # The time that a lease lasts has passed, and that of the next attempt has come.
        sending.update(lease_until=a_second_ago)
        WebhookDelivery.objects.filter(state="retrying").update(next_attempt_at=a_second_ago)
        if "--without-sweeper" in arguments:
            queue.give_back_expired = lambda: 0
        tell()
        recovery.release_due()
        Engine(linger=0).run()
        for delivery in WebhookDelivery.objects.exclude(state__in=("delivered", "sending")):
            print(delivery.state_reason, file=sys.stderr)
        return Counter(WebhookDelivery.objects.values_list("state", flat=True))
    return None


def main() -> None:
    django.setup()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                print(json.dumps(run(*json.loads(line))), flush=True)
                code = 0
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helpdesk.settings")
    main()
