"""Each of the fourteen types, provoked through the public API and compared in its three places with the contract.

`Person.told` checks the record, the webhook (signature verified by the npm and the PyPI package) and the socket event
field by field; its `data` is always what that same person gets from the API.
"""

import pytest

from .api import Entity
from .contract import LARGEST_BODY
from .people import People, Person
from .samples import png

pytestmark = pytest.mark.live


def nobody_else(cast: People, type: str, related_id: str, *told: Person) -> None:
    """Everybody but these was not told, the one who did it above all."""
    for person in cast:
        if person not in told:
            person.marker()
            person.not_told(type, related_id)


def test_comment_on_ticket(cast: People, ticket: Entity) -> None:
    comment = cast.colleague.api.comment_on(ticket["id"], "Step back, please.")
    for person in (cast.customer, cast.agent):
        record = person.told("comment_on_ticket", comment["id"], person.api.comment(comment["id"]))
        assert ticket["title"] in record["message"]
        assert comment["author"]["name"] in record["message"]
    assert {"id", "content", "author_id", "ticket_id", "created_at", "updated_at"} <= set(comment)
    nobody_else(cast, "comment_on_ticket", comment["id"], cast.customer, cast.agent)


def test_comment_on_ticket_of_an_internal_note(cast: People, ticket: Entity) -> None:
    note = cast.colleague.api.comment_on(ticket["id"], "They put it on fire themselves.", is_internal=True)
    cast.agent.told("comment_on_ticket", note["id"], cast.agent.api.comment(note["id"]))
    nobody_else(cast, "comment_on_ticket", note["id"], cast.agent)
    assert not cast.customer.mentions(note["id"])


def test_reply_to_comment(cast: People, ticket: Entity) -> None:
    question = cast.customer.api.comment_on(ticket["id"], "Should I use water?")
    reply = cast.colleague.api.comment_on(ticket["id"], "Please do not.", parent_id=question["id"])
    assert reply["parent_id"] == question["id"]
    cast.customer.told("reply_to_comment", reply["id"], cast.customer.api.comment(reply["id"]))
    nobody_else(cast, "reply_to_comment", reply["id"], cast.customer)
    cast.customer.not_told("comment_on_ticket", reply["id"])
    cast.agent.told("comment_on_ticket", reply["id"], cast.agent.api.comment(reply["id"]))


def test_comment_updated(cast: People, ticket: Entity) -> None:
    comment = cast.colleague.api.comment_on(ticket["id"], "Use foam.")
    cast.colleague.api.change_comment(comment["id"], "Use powder.")
    for person in (cast.customer, cast.agent):
        person.told("comment_updated", comment["id"], person.api.comment(comment["id"]))
    nobody_else(cast, "comment_updated", comment["id"], cast.customer, cast.agent)


def test_comment_updated_is_silent_when_nothing_changed(cast: People, ticket: Entity) -> None:
    comment = cast.colleague.api.comment_on(ticket["id"], "Use sand.")
    cast.colleague.api.change_comment(comment["id"], "Use sand.")
    nobody_else(cast, "comment_updated", comment["id"])


def test_comment_deleted(cast: People, ticket: Entity) -> None:
    comment = cast.colleague.api.comment_on(ticket["id"], "Use petrol.")
    before = {person.id: person.api.comment(comment["id"]) for person in (cast.customer, cast.agent)}
    cast.colleague.api.delete_comment(comment["id"])
    for person in (cast.customer, cast.agent):
        person.told("comment_deleted", comment["id"], before[person.id], deleted=True)
        person.api.refused("GET", f"/api/comments/{comment['id']}", 404)
    nobody_else(cast, "comment_deleted", comment["id"], cast.customer, cast.agent)


def test_new_ticket(cast: People) -> None:
    ticket = cast.customer.api.open_ticket("The scanner is wet")
    for person in (cast.admin, cast.boss):
        record = person.told("new_ticket", ticket["id"], person.api.ticket(ticket["id"]))
        assert ticket["title"] in record["message"]
    nobody_else(cast, "new_ticket", ticket["id"], cast.admin, cast.boss)


def test_new_ticket_by_an_admin_tells_the_other_admin(cast: People) -> None:
    ticket = cast.admin.api.open_ticket("The cellar is wet", requester_id=cast.customer.id)
    cast.boss.told("new_ticket", ticket["id"], cast.boss.api.ticket(ticket["id"]))
    nobody_else(cast, "new_ticket", ticket["id"], cast.boss)


def test_ticket_updated(cast: People, ticket: Entity) -> None:
    cast.colleague.api.change_ticket(ticket["id"], priority="urgent")
    cast.agent.told("ticket_updated", ticket["id"], cast.agent.api.ticket(ticket["id"]))
    nobody_else(cast, "ticket_updated", ticket["id"], cast.agent)


def test_ticket_updated_tells_both_when_it_was_reassigned(cast: People, ticket: Entity) -> None:
    cast.boss.api.change_ticket(ticket["id"], assignee_id=cast.colleague.id)
    for person in (cast.agent, cast.colleague):
        person.told("ticket_updated", ticket["id"], person.api.ticket(ticket["id"]))
    nobody_else(cast, "ticket_updated", ticket["id"], cast.agent, cast.colleague)


def test_ticket_updated_is_silent_when_nothing_changed(cast: People, ticket: Entity) -> None:
    cast.colleague.api.change_ticket(ticket["id"], title=ticket["title"], priority=ticket["priority"])
    nobody_else(cast, "ticket_updated", ticket["id"])


def test_ticket_deleted(cast: People, ticket: Entity) -> None:
    comment = cast.customer.api.comment_on(ticket["id"], "Never mind.")
    attachment = cast.customer.api.attach(ticket["id"], "ashes.png", png(), "image/png")
    before = cast.agent.api.ticket(ticket["id"])
    cast.boss.api.delete_ticket(ticket["id"])
    cast.agent.told("ticket_deleted", ticket["id"], before, deleted=True)
    nobody_else(cast, "ticket_deleted", ticket["id"], cast.agent)
    for person in cast:
        person.not_told("comment_deleted", comment["id"])
        person.not_told("attachment_deleted", attachment["id"])
        person.api.refused("GET", f"/api/tickets/{ticket['id']}", 404)
        person.api.refused("GET", f"/api/comments/{comment['id']}", 404)


def test_user_created(cast: People) -> None:
    user = cast.admin.api.create_user("created-by-admin")
    cast.boss.told("user_created", user["id"], cast.boss.api.user(user["id"]))
    nobody_else(cast, "user_created", user["id"], cast.boss)


def test_user_deactivated(cast: People) -> None:
    user = cast.admin.api.create_user("soon-gone")
    cast.admin.api.deactivate(user["id"])
    cast.boss.told("user_deactivated", user["id"], cast.boss.api.user(user["id"]))
    nobody_else(cast, "user_deactivated", user["id"], cast.boss)


def test_kb_article_created(cast: People) -> None:
    article = cast.colleague.api.write_article("How to put out a printer")
    nobody_else(cast, "kb_article_created", article["id"])
    assert not cast.customer.mentions(article["id"])

    cast.colleague.api.change_article(article["id"], status="published")
    readers = [person for person in cast if person is not cast.colleague]
    for person in readers:
        record = person.told("kb_article_created", article["id"], person.api.article(article["id"]))
        assert article["title"] in record["message"]
    nobody_else(cast, "kb_article_created", article["id"], *readers)


def test_attachment_added_updated_and_deleted(cast: People, ticket: Entity) -> None:
    owners = (cast.customer, cast.agent)
    attachment = cast.colleague.api.attach(ticket["id"], "fire.png", png(), "image/png")
    assert attachment["filename"] == "fire.png"
    for person in owners:
        person.told("attachment_added", attachment["id"], person.api.attachment(attachment["id"]))
        assert person.api.download(attachment["id"]).content == png()
    nobody_else(cast, "attachment_added", attachment["id"], *owners)

    cast.colleague.api.rename_attachment(attachment["id"], "smoke.png")
    before = {person.id: person.api.attachment(attachment["id"]) for person in owners}
    for person in owners:
        assert before[person.id]["filename"] == "smoke.png"
        person.told("attachment_updated", attachment["id"], before[person.id])
    nobody_else(cast, "attachment_updated", attachment["id"], *owners)

    cast.colleague.api.delete_attachment(attachment["id"])
    for person in owners:
        person.told("attachment_deleted", attachment["id"], before[person.id], deleted=True)
        person.api.refused("GET", f"/api/attachments/{attachment['id']}/download", 404)
    nobody_else(cast, "attachment_deleted", attachment["id"], *owners)


def test_attachment_of_internal_kind_reaches_the_assignee_only(cast: People, ticket: Entity) -> None:
    attachment = cast.colleague.api.attach(ticket["id"], "cctv.png", png(5), "image/png", is_internal="true")
    cast.agent.told("attachment_added", attachment["id"], cast.agent.api.attachment(attachment["id"]))
    nobody_else(cast, "attachment_added", attachment["id"], cast.agent)
    assert not cast.customer.mentions(attachment["id"])


def test_webhook_test(cast: People) -> None:
    before = {record["id"] for record in cast.customer.api.notifications("webhook_test")}
    attempt = cast.customer.api.test_webhook()
    [record] = [record for record in cast.customer.api.notifications("webhook_test") if record["id"] not in before]
    assert record["related_type"] == "webhook"
    payload = cast.customer.socket.event("notification", lambda it: it["id"] == record["id"], "webhook_test")
    request = cast.customer.receiver.request(
        cast.customer.username, lambda body: body["notification"]["id"] == record["id"], "webhook_test"
    )
    assert request["payload"] == {key: payload[key] for key in ("event", "notification", "data")}
    assert cast.customer.secret not in request["body"]
    assert attempt["status"] == 200, attempt
    for person in cast:
        if person is not cast.customer:
            person.marker()
            assert record["id"] not in str(person.socket.events("notification"))


def test_the_largest_comment_stays_below_what_stock_express_takes(cast: People, ticket: Entity) -> None:
    schema = cast.admin.api.get("/api/schema", format="json")
    longest = schema["components"]["schemas"]["Comment"]["properties"]["content"]["maxLength"]
    # Characters and encoded bytes are limited both: this is the most of each.
    comment = cast.colleague.api.comment_on(ticket["id"], "🔥" * 15_000 + "x" * (min(longest, 18_000) - 15_000))
    cast.customer.told("comment_on_ticket", comment["id"], cast.customer.api.comment(comment["id"]))
    request = cast.customer.receiver.request(
        cast.customer.username,
        lambda body: body["notification"]["related_id"] == comment["id"],
        "the largest comment",
    )
    assert len(request["body"].encode()) < LARGEST_BODY
