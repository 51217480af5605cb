"""From ids to pages: what an event, a notification or a delivery is about."""

from uuid import UUID

from django.urls import reverse

from notifications.models import Notification

_PAGES = {
    "ticket": "admin:tickets_ticket_change",
    "comment": "admin:comments_comment_change",
    "attachment": "admin:tickets_attachment_change",
    "kb_article": "admin:knowledge_article_change",
    "user": "admin:accounts_user_change",
    "webhook": "admin:notifications_webhookendpoint_change",
}


def page_of(entity: str, entity_id: UUID, ticket_id: UUID | None = None) -> str:
    """The admin's page of an entity; a comment or an attachment is looked at where the conversation is."""
    if ticket_id is not None and entity != "ticket":
        return f"{reverse(_PAGES['ticket'], args=[ticket_id])}#{entity}-{entity_id}"
    return reverse(_PAGES[entity], args=[entity_id])


def is_example(notification: Notification) -> bool:
    """Whether it is a test that speaks of something made up, which has no page."""
    return notification.event.action == "test" and notification.related_type != "webhook"


def id_in(text: str) -> UUID | None:
    """The id that was typed into a search box, also as a webhook-id (`msg_…`); None when it is none."""
    try:
        return UUID(text.strip().removeprefix("msg_"))
    except ValueError:
        return None


def ticket_number_in(text: str) -> int | None:
    """The ticket number that was typed into a search box (`12`, `#12`); None when it is none."""
    number = text.strip().removeprefix("#")
    return int(number) if number.isascii() and number.isdigit() and len(number) < 18 else None
