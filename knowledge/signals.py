"""What `knowledge` tells of its changes. All are sent inside the transaction of the change."""

from helpdesk.changes.signals import ModelSignal

article_created = ModelSignal("article_created", "An article was written, as a draft or published at once.")
article_updated = ModelSignal(
    "article_updated",
    "An article's title, body or status changed. Not sent for its first publication, which has its own signal.",
)
article_published = ModelSignal(
    "article_published",
    "A draft was published for the first time. Not sent when it is published again after it was taken back.",
)
article_deleted = ModelSignal("article_deleted", "An article was deleted (softly).")
