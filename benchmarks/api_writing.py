"""Writing through the API: what a comment costs with everything that is written down because of it."""

from itertools import count

from django.core.cache import cache
from django.db import transaction

from benchmarks.client import Client
from benchmarks.desks import desks
from benchmarks.measuring import median_times
from benchmarks.registry import Figure, benchmark
from benchmarks.run import Run
from comments.models import Comment
from notifications.models import WebhookDelivery
from notifications.webhooks import endpoints
from tickets.models import Status, Ticket

CONTENT = "Have you tried it with another cable? The one it comes with is a bit short for desks like yours."


@benchmark(
    "api.comment_vs_bare_insert",
    unit="ms",
    baseline="the comment's row alone, by the ORM in a transaction of its own",
)
def comment(run: Run) -> Figure:
    """No goal: a request with sign-in, rights, an event, two notifications and two deliveries is no insert."""
    desk = run.use(desks).large
    numbers = count(1)
    with desk.active():
        ticket = (
            Ticket.objects.filter(status=Status.OPEN)
            .exclude(assignee=None)
            .select_related("requester", "assignee")
            .order_by("-created_at")[0]
        )
        for person in (ticket.requester, ticket.assignee):
            endpoints.set_primary(person, "http://127.0.0.1:8999/never-called")
        client = Client(desk.admin)

        def post() -> None:
            client.post(f"/api/tickets/{ticket.pk}/comments", {"content": f"{CONTENT} ({next(numbers)})"})

        def insert() -> None:
            with transaction.atomic():
                Comment.objects.bulk_create_without_signals(
                    [Comment(ticket=ticket, author=desk.admin, content=f"{CONTENT} ({next(numbers)})")]
                )

        before = WebhookDelivery.objects.count()
        post()
        if WebhookDelivery.objects.count() != before + 2:
            raise RuntimeError("a comment was to be told to two people's webhooks, and was not")
        times = median_times({"api": post, "bare": insert}, rounds=40, seconds=20, before=cache.clear)
    return Figure(times["api"] * 1000, times["bare"] * 1000)
