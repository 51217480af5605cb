"""A process that changes things at random until its standard input ends: `python writer.py SEED PAUSE < pipe`.

It goes through the models, as the API does, with the ticket's row locked; each process is a database connection of its
own. Rights change all the time: tickets move, comments become internal, articles are withdrawn, one person's role
changes.
"""

import random
import select
import sys
from typing import Any

import django

django.setup()

from django.db import OperationalError  # noqa: E402

from comments.models import Comment  # noqa: E402
from helpdesk.accounts.models import User  # noqa: E402
from helpdesk.changes.unit import unit  # noqa: E402
from knowledge.models import Article, ArticleStatus  # noqa: E402
from tickets.models import Ticket  # noqa: E402

CUSTOMERS = ("fire-customer", "fire-other", "fire-shifting")


class Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        people = User.objects.filter(username__startswith="fire-")
        self.people = {user.username: user for user in people}
        self.ways: list[tuple[int, Any]] = [
            (4, self.open_ticket),
            (10, self.change_ticket),
            (20, self.comment),
            (6, self.turn_comment),
            (6, self.rewrite_comment),
            (3, self.delete_comment),
            (2, self.move_ticket),  # each is an event for every comment, too
            (1, self.delete_ticket),
            (3, self.publish),
            (1, self.change_role),
        ]

    def step(self) -> None:
        [(_weight, way)] = self.random.choices(self.ways, [weight for weight, _ in self.ways])
        with unit():
            way()

    def customer(self) -> User:
        return self.people[self.random.choice(CUSTOMERS)]

    def text(self) -> str:
        return f"{self.random.random():.12f}"

    def locked(self) -> Ticket | None:
        tickets = Ticket.objects.select_for_update().filter(deleted_at=None, title__startswith="Fire")
        return tickets.filter(pk=self.random.choice(ids)).first() if (ids := self.recent()) else None

    def recent(self) -> list[Any]:
        return list(
            Ticket.objects.filter(deleted_at=None, title__startswith="Fire")
            .order_by("-created_at")
            .values_list("pk", flat=True)[:30]
        )

    def open_ticket(self) -> None:
        Ticket.objects.create(title=f"Fire {self.text()}", requester=self.customer())

    def change_ticket(self) -> None:
        if ticket := self.locked():
            ticket.title = f"Fire {self.text()}"
            ticket.save()

    def move_ticket(self) -> None:
        if ticket := self.locked():
            ticket.requester = self.customer()
            ticket.save()

    def delete_ticket(self) -> None:
        if ticket := self.locked():
            ticket.delete()

    def comment(self) -> None:
        if ticket := self.locked():
            author = self.people["fire-admin"]
            Comment(ticket=ticket, author=author, content=self.text(), is_internal=self.random.random() < 0.3).post()

    def some_comment(self) -> Comment | None:
        if ticket := self.locked():
            comment = Comment.objects.filter(ticket=ticket, deleted_at=None).order_by("?").first()
            if comment is not None:
                comment.ticket = ticket
            return comment
        return None

    def turn_comment(self) -> None:
        if comment := self.some_comment():
            comment.is_internal = not comment.is_internal
            comment.save()

    def rewrite_comment(self) -> None:
        if comment := self.some_comment():
            comment.content = self.text()
            comment.save()

    def delete_comment(self) -> None:
        if comment := self.some_comment():
            comment.delete()

    def publish(self) -> None:
        article = Article.objects.select_for_update().filter(title__startswith="Fire").order_by("?").first()
        if article is None or self.random.random() < 0.3:
            Article.objects.create(title=f"Fire {self.text()}", body="-", author=self.people["fire-admin"])
            return
        is_draft = article.status == ArticleStatus.DRAFT
        article.status = ArticleStatus.PUBLISHED if is_draft else ArticleStatus.DRAFT
        article.save()

    def change_role(self) -> None:
        user = User.objects.select_for_update().get(username="fire-shifting")
        user.role = "customer" if user.role == "agent" else "agent"
        user.save()


def main(seed: int, pause: float) -> None:
    writer, count = Writer(seed), 0
    while not select.select([sys.stdin], [], [], pause)[0]:
        try:
            writer.step()
            count += 1
        except OperationalError as error:
            if "deadlock" not in str(error):
                raise
    print(count)


main(int(sys.argv[1]), float(sys.argv[2]))
