"""What `comments` tells of its changes. All are sent inside the transaction of the change."""

from helpdesk.changes.signals import ModelSignal

comment_created = ModelSignal("comment_created", "A reply or an internal note was written on a ticket.")
comment_updated = ModelSignal(
    "comment_updated",
    "A comment's content changed, or it became internal or public. Not sent when the same values are saved again.",
)
comment_deleted = ModelSignal(
    "comment_deleted",
    "A comment was deleted (softly). Not sent when its ticket is deleted.",
)
