"""Reading through the API: what 100,000 tickets cost against 1,000, and our list against a bare one."""

from collections.abc import Callable
from dataclasses import dataclass

from django.core.cache import cache

from benchmarks.client import Client
from benchmarks.desks import Desk, Desks, desks
from benchmarks.measuring import median_times
from benchmarks.registry import Figure, benchmark, ratio_at_least, ratio_at_most
from benchmarks.run import Run
from helpdesk.accounts.models import User
from helpdesk.api.pagination import Cursor

AT_1K = "the same request at 1,000 tickets"
AS_MUCH = ratio_at_most(1.2)
DEEP = 0.9
"""How far down the list the deep page lies."""

# The newest tickets are the same at either size, so every case but one fills the same page with the same rows. What
# is found in old tickets too is found a hundred times as often at 100,000.
LISTS = (
    "/api/tickets",
    "/api/tickets?order=-updated_at",
    "/api/tickets?order=number",
    "/api/tickets?order=-priority",
    "/api/tickets?limit=100",
    "customer: /api/tickets",
)
FILTERS = (
    "/api/tickets?status=open",
    "/api/tickets?status=new&status=open&status=pending&order=-updated_at",
    "/api/tickets?status=closed&order=-updated_at",
    "/api/tickets?priority=urgent",
    "/api/tickets?assignee_id={agent}",
    "/api/tickets?assignee_id={agent}&status=open&limit=3",
    "/api/tickets?assignee_id=none",
    "/api/tickets?requester_id={busy_customer}",
    "/api/tickets?tag=billing",
    "/api/tickets?tag=vip&tag=bug&limit=10",
    "/api/tickets?created_after=2026-01-30T00:00:00Z",
    "/api/tickets?updated_after=2026-01-30T00:00:00Z&order=-updated_at",
    "customer: /api/tickets?status=closed",
)
SEARCHES = (
    "/api/tickets?search=invoice",
    "/api/tickets?search=cancel%20invoice&limit=5",
    "/api/tickets?search=deliv",
    "/api/tickets?search=the",
    "/api/tickets?search={rare}",
    "/api/tickets?search=nowhereatall",
    "/api/tickets?search=%23{number}",
    "/api/tickets?search=refund&status=open&limit=3",
    "customer: /api/tickets?search=invoice&limit=3",
)
DETAILS = (
    "/api/tickets/{id}",
    "/api/tickets/{id}?include=comments,attachments",
    "/api/tickets/{id}/comments",
    "customer: /api/tickets/{id}?include=comments,attachments",
)


@dataclass(frozen=True)
class _Case:
    """A request as it is made at one of the desks."""

    path: str
    client: Client

    def get(self) -> bytes:
        return self.client.get(self.path)


def _case(desk: Desk, template: str) -> _Case:
    """`template` names what differs between desks (ids) in braces; `customer: …` is asked by a customer."""
    who, _, path = template.rpartition(": ")
    user: User = desk.busy_customer if who == "customer" else desk.agent
    ticket = desk.talked_about
    path = path.format(
        agent=desk.agent.pk,
        busy_customer=desk.busy_customer.pk,
        id=ticket.pk,
        number=ticket.number,
        rare=desk.rare_word,
    )
    with desk.active():
        return _Case(path, Client(user))


def _active(desk: Desk, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        with desk.active():
            call()

    return run


def _large_against_small(run: Run, templates: tuple[str, ...]) -> Figure:
    """The case that grows most with the number of tickets, in milliseconds."""
    both: Desks = run.use(desks)
    variants = {}
    for template in templates:
        cases = {desk.size: _case(desk, template) for desk in (both.small, both.large)}
        _check_same_amount(both, cases, template)
        for desk in (both.small, both.large):
            variants[template, desk.size] = _active(desk, cases[desk.size].get)
    times = median_times(variants, seconds=6.0 * len(templates), before=cache.clear)
    figures = [
        Figure(
            times[template, both.large.size] * 1000,
            times[template, both.small.size] * 1000,
            f"the most growing of {len(templates)}: {template}",
        )
        for template in templates
    ]
    for figure, template in zip(figures, templates, strict=True):
        run.say(f"    {figure.baseline:7.2f} → {figure.value:7.2f} ms  × {figure.ratio:4.2f}  {template}")
    return max(figures, key=lambda figure: figure.ratio or 0)


def _check_same_amount(both: Desks, cases: dict[int, _Case], template: str) -> None:
    amounts = []
    for desk in (both.small, both.large):
        with desk.active():
            answer = cases[desk.size].client.get_json(cases[desk.size].path)
        amounts.append(len(answer.get("results", answer)))
    if amounts[0] != amounts[1]:
        raise RuntimeError(f"{template} finds {amounts[0]} at one size and {amounts[1]} at the other")


@benchmark("api.list_100k_vs_1k", unit="ms", baseline=AT_1K, goal=AS_MUCH)
def list_(run: Run) -> Figure:
    return _large_against_small(run, LISTS)


@benchmark("api.filter_100k_vs_1k", unit="ms", baseline=AT_1K, goal=AS_MUCH)
def filter_(run: Run) -> Figure:
    return _large_against_small(run, FILTERS)


@benchmark("api.search_100k_vs_1k", unit="ms", baseline=AT_1K, goal=AS_MUCH)
def search(run: Run) -> Figure:
    return _large_against_small(run, SEARCHES)


@benchmark("api.detail_100k_vs_1k", unit="ms", baseline=AT_1K, goal=AS_MUCH)
def detail(run: Run) -> Figure:
    return _large_against_small(run, DETAILS)


@benchmark("api.deep_page_vs_first", unit="ms", baseline="the first page of the same 100,000 tickets", goal=AS_MUCH)
def deep_page(run: Run) -> Figure:
    desk = run.use(desks).large
    ticket = desk.ticket(age=int(desk.size * DEEP))
    cursor = Cursor("-created_at", backward=False, value=ticket.created_at, id=ticket.pk)
    first = _case(desk, "/api/tickets")
    deep = _case(desk, f"/api/tickets?cursor={cursor.encode()}")
    times = median_times(
        {"first": _active(desk, first.get), "deep": _active(desk, deep.get)}, seconds=15, before=cache.clear
    )
    return Figure(times["deep"] * 1000, times["first"] * 1000, f"the page after ticket {int(desk.size * DEEP):,}")


@benchmark(
    "api.list_vs_bare_drf",
    unit="requests/s",
    baseline="a DRF view set and ModelSerializer with nothing else, the same 100,000 tickets",
    goal=ratio_at_least(0.8),
)
def list_against_bare(run: Run) -> Figure:
    desk = run.use(desks).large
    ours, bare = _case(desk, "/api/tickets"), _case(desk, "/bare/tickets")
    with desk.active():
        if [row["id"] for row in ours.client.get_json(ours.path)["results"]] != [
            row["id"] for row in bare.client.get_json(bare.path)["results"]
        ]:
            raise RuntimeError("the two lists differ")
    times = median_times(
        {"ours": _active(desk, ours.get), "bare": _active(desk, bare.get)}, rounds=50, seconds=30, before=cache.clear
    )
    return Figure(1 / times["ours"], 1 / times["bare"])
