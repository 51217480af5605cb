from typing import Self

from django.conf import settings
from django.db import models

from helpdesk.accounts.models import User
from helpdesk.changes.models import EmittingQuerySet, SoftDeleteModel
from tickets import signals
from tickets.files import attachment_path, validate_filename
from tickets.models.ticket import Ticket


class AttachmentQuerySet(EmittingQuerySet):
    def visible_to(self, user: User) -> Self:
        """Whoever sees the ticket sees its attachments, internal ones only agents and administrators."""
        attachments = self.filter(deleted_at=None, ticket__deleted_at=None)
        if not user.is_active:
            return attachments.none()
        if user.is_agent_or_admin:
            return attachments
        return attachments.filter(ticket__requester=user, is_internal=False)


class Attachment(SoftDeleteModel):
    """A file attached to a ticket. Its bytes never change; its name and whether it is internal may."""

    watched = ("filename", "is_internal")
    emits = {
        "created": signals.attachment_added,
        "updated": signals.attachment_updated,
        "deleted": signals.attachment_deleted,
    }

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="attachments")
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="attachments", null=True, blank=True
    )
    file = models.FileField(upload_to=attachment_path, max_length=200)
    filename = models.CharField(max_length=150, validators=[validate_filename])
    content_type = models.CharField(max_length=100, editable=False)
    size = models.PositiveBigIntegerField(editable=False, help_text="Bytes.")
    is_internal = models.BooleanField("internal", default=False, help_text="Only agents and administrators see it.")

    objects = models.Manager.from_queryset(AttachmentQuerySet)()

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["ticket", "created_at", "id"], name="attachment_ticket"),
            models.Index(fields=["deleted_at"], condition=~models.Q(deleted_at=None), name="attachment_deleted"),
        ]

    def __str__(self) -> str:
        return self.filename
