"""The people of the story, and what each of them is told in the three places."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .api import DEMO_PASSWORD, NEW_PASSWORD, Api, Entity
from .contract import check_payload, check_record, check_times, check_webhook, moment
from .inbox import eventually
from .receivers import ExpressReceiver
from .sockets import SocketIoClient, SocketIoDriver


class Person:
    """One signed-in person; the socket and the webhook come to life at their first use."""

    def __init__(
        self,
        api: Api,
        password: str,
        receiver: Callable[[], ExpressReceiver],
        driver: Callable[[], SocketIoDriver],
    ) -> None:
        self.api = api
        self.password = password
        self.profile = api.me()
        self.id: str = self.profile["id"]
        self.username: str = self.profile["username"]
        self._receiver = receiver
        self._driver = driver

    @property
    def token(self) -> str:
        return self.api.access

    @property
    def credentials(self) -> tuple[str, str, str]:
        """Username, password and access token."""
        return self.username, self.password, self.token

    @cached_property
    def socket(self) -> SocketIoClient:
        """A stock Socket.IO connection that has joined every room open to this person."""
        client = self._driver().open(self.api.base, auth={"token": self.token})
        client.connected()
        client.join("tickets", "comments", "attachments")
        return client

    @cached_property
    def secret(self) -> str:
        """The secret of this person's webhook, which is set to the Express receiver when first asked for."""
        return self.api.set_webhook(self.receiver.url(self.username))["secret"]

    @property
    def receiver(self) -> ExpressReceiver:
        return self._receiver()

    def listen(self) -> None:
        """Open the socket and set the webhook, before anything happens that should arrive there."""
        assert self.socket
        assert self.secret

    def told(self, type: str, related_id: str, data: Entity, deleted: bool = False) -> Entity:
        """Check record, webhook and socket event of one notification against the contract; gives the record.

        `data` is the entity as this person gets it from the API; where it was `deleted`, as it was before, and
        `deleted_at` must have been set. The webhook's signature is verified twice, by the npm and by the PyPI
        package.
        """
        records = self.api.notifications(type, related_id) or eventually(
            lambda: self.api.notifications(type, related_id), f"{self.username} has a {type} record"
        )
        assert len(records) == 1, f"{self.username} has {len(records)} {type} records of one change"
        head = check_record(records[0], type, related_id)
        payload = self.socket.event(
            "notification", lambda payload: payload["id"] == head["id"], f"{type} for {self.username}"
        )
        check_times(payload["data"])
        if deleted:
            moment(payload["data"]["deleted_at"])
            data = {**data, "deleted_at": payload["data"]["deleted_at"]}
        check_payload(payload, head, data)
        request = self.receiver.request(self.username, lambda body: body["notification"]["id"] == head["id"], type)
        check_webhook(request, self.secret, head, data)
        self.receiver.verify(self.secret, request)
        assert self.receiver.answer(request) == 200
        return records[0]

    def marker(self) -> None:
        """Return when all that was due to this person up to now has been told: sockets keep the order of events."""
        earlier = {payload["id"] for payload in self.socket.events("notification")}
        self.api.test_webhook()
        marker = self.socket.event(
            "notification",
            lambda payload: payload["type"] == "webhook_test" and payload["id"] not in earlier,
            f"the marker for {self.username}",
        )
        self.receiver.request(self.username, lambda body: body["notification"]["id"] == marker["id"], "the marker")

    def mentions(self, needle: str) -> list[Any]:
        """Everything this person was told, anywhere, in which an id or a text occurs."""
        webhooks = [request["body"] for request in self.receiver.requests(self.username)]
        places = [*self.api.notifications(), *self.socket.events(), *webhooks, *self.api.feed()]
        return [told for told in places if needle in str(told)]

    def not_told(self, type: str, related_id: str) -> None:
        """No record, no socket event and no webhook of this type about this entity; call after `marker`."""
        heads = [
            *self.api.notifications(),
            *(payload["notification"] for payload in self.socket.events("notification")),
            *(request["payload"]["notification"] for request in self.receiver.requests(self.username)),
        ]
        told = [head for head in heads if (head["type"], head["related_id"]) == (type, related_id)]
        assert not told, f"{self.username} should not have been told: {told}"


@dataclass
class People:
    """Two of each kind: one who acts and one who is told, or one who owns and one who must not see."""

    admin: Person
    boss: Person
    """The second admin."""
    agent: Person
    colleague: Person
    """The second agent."""
    customer: Person
    stranger: Person
    """The second customer."""

    def __iter__(self):
        return iter((self.admin, self.boss, self.agent, self.colleague, self.customer, self.stranger))


def gather(base: str, receiver: Callable[[], ExpressReceiver], driver: Callable[[], SocketIoDriver]) -> People:
    """Sign the demo accounts in and create the second three."""
    anyone = Api(base)

    def person(username: str, password: str) -> Person:
        return Person(anyone.sign_in(username, password), password, receiver, driver)

    admin = person("admin", DEMO_PASSWORD)
    for username, role in (("boss", "admin"), ("colleague", "agent"), ("stranger", "customer")):
        admin.api.create_user(username, role)
    people = People(
        admin=admin,
        boss=person("boss", NEW_PASSWORD),
        agent=person("agent", DEMO_PASSWORD),
        colleague=person("colleague", NEW_PASSWORD),
        customer=person("customer", DEMO_PASSWORD),
        stranger=person("stranger", NEW_PASSWORD),
    )
    anyone.close()
    return people
