"""What `tickets` tells of its changes. All are sent inside the transaction of the change."""

from helpdesk.changes.signals import ModelSignal

ticket_created = ModelSignal(
    "ticket_created",
    "A ticket was opened: by the API, the admin, an import. Not sent for bulk inserts.",
)
ticket_updated = ModelSignal(
    "ticket_updated",
    "Title, description, status, priority, requester, assignee or tags of a ticket changed; also when a reply "
    "reopened it. Not sent when a comment or an attachment is added, nor when the same values are saved again.",
)
ticket_deleted = ModelSignal(
    "ticket_deleted",
    "A ticket was deleted (softly). Not sent for what goes with it, nor when it is removed for good later.",
)
attachment_added = ModelSignal("attachment_added", "A file was attached to a ticket.")
attachment_updated = ModelSignal(
    "attachment_updated",
    "An attachment's name changed, or it became internal or public. Its bytes never change.",
)
attachment_deleted = ModelSignal(
    "attachment_deleted",
    "An attachment was deleted (softly). Not sent when its ticket is deleted.",
)
