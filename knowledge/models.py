from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone

from helpdesk.accounts.models import User
from helpdesk.changes.models import EmittingQuerySet, SoftDeleteModel
from helpdesk.changes.text import BoundedTextField, validate_line
from knowledge import signals


class ArticleStatus(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"


class ArticleQuerySet(EmittingQuerySet):
    def visible_to(self, user: User) -> Self:
        """Agents and administrators see drafts too, customers what is published."""
        articles = self.filter(deleted_at=None)
        if not user.is_active:
            return articles.none()
        return articles if user.is_agent_or_admin else articles.filter(status=ArticleStatus.PUBLISHED)


class Article(SoftDeleteModel):
    """An article of the knowledge base, in Markdown."""

    watched = ("title", "body", "status")
    emits = {
        "created": signals.article_created,
        "updated": signals.article_updated,
        "deleted": signals.article_deleted,
    }

    title = models.CharField(max_length=200, validators=[validate_line])
    body = BoundedTextField(help_text="Markdown.")
    status = models.CharField(max_length=10, choices=ArticleStatus.choices, default=ArticleStatus.DRAFT)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="articles", null=True, blank=True
    )
    published_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="When it was first published.")

    objects = models.Manager.from_queryset(ArticleQuerySet)()

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(
                fields=["status", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="article_status",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._first_publication = self.status == ArticleStatus.PUBLISHED and self.published_at is None
        if self._first_publication:
            self.published_at = timezone.now()
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], "published_at"}
        super().save(*args, **kwargs)

    def signal_for(self, action: str, changes: dict[str, list]) -> Any:
        if action == "updated" and self._first_publication:
            return signals.article_published
        return super().signal_for(action, changes)
