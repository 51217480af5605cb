"""Attachments: uploading, renaming, deleting and the authorised download."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError as ModelValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import FileResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from helpdesk.accounts.authentication import caller
from helpdesk.api.errors import Conflict, InsufficientStorage, Unavailable
from helpdesk.api.parsers import BoundedMultiPartParser
from helpdesk.api.views import EntityDetail, EntityView
from helpdesk.changes.unit import unit
from tickets.api import includes
from tickets.api.includes import Include
from tickets.api.serializers import AttachmentPageSerializer, AttachmentSerializer, UploadSerializer
from tickets.api.views import TicketPart
from tickets.files import clean_filename, sniffed_type
from tickets.models import Attachment, Status, Ticket

logger = logging.getLogger(__name__)


class TicketAttachments(TicketPart):
    """A ticket's attachments, oldest first. Internal ones are for agents and administrators."""

    model = Attachment
    serializer_class = AttachmentSerializer
    parser_classes: list[type[BaseParser]] = [BoundedMultiPartParser]

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("uploaded_by")

    @extend_schema(request={"multipart/form-data": UploadSerializer}, responses={201: AttachmentSerializer})
    def post(self, request: Request, id: UUID) -> Response:
        """Attach a file. Its type is found by its first bytes; what a browser could run is refused."""
        ticket = get_object_or_404(Ticket.objects.visible_to(caller(request)), pk=id)
        attachment = Attachment(ticket=ticket, uploaded_by=caller(request))
        file, fields = self._upload(request, attachment)
        attachment.filename = fields.get("filename") or clean_filename(file.name or "")
        attachment.is_internal = fields.get("is_internal", False)
        attachment.size = file.size or 0
        try:
            attachment.content_type = sniffed_type(file)
        except ModelValidationError as error:
            raise ValidationError({"file": error.messages}) from None
        # The bytes are written before the transaction begins, so that no row is locked while a disk is slow.
        with _stored(attachment, file), unit():
            attachment.ticket = self._open_ticket(id)
            attachment.save()
        return Response(self.get_serializer(attachment).data, status=201)

    def _upload(self, request: Request, attachment: Attachment) -> tuple[UploadedFile, dict[str, Any]]:
        if len(request.FILES.getlist("file")) > 1:
            raise ValidationError({"file": ["One file at a time."]})
        serializer = UploadSerializer(attachment, data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        fields = serializer.validated_data
        return fields["file"], fields

    def _open_ticket(self, id: UUID) -> Ticket:
        """The ticket, locked until the attachment is saved: who is told and how many there are stays true."""
        tickets = Ticket.objects.visible_to(caller(self.request))
        ticket = get_object_or_404(tickets.select_for_update(), pk=id)
        if ticket.status == Status.CLOSED:
            raise Conflict("This ticket is closed. Please open a new one.", code="ticket_closed")
        if ticket.attachments.filter(deleted_at=None).count() >= settings.MAX_ATTACHMENTS_PER_TICKET:
            raise Conflict(
                f"A ticket has at most {settings.MAX_ATTACHMENTS_PER_TICKET} attachments.", code="too_many_attachments"
            )
        return ticket


@contextmanager
def _stored(attachment: Attachment, file: UploadedFile) -> Iterator[None]:
    """Write the bytes to the storage; whatever goes wrong then or inside the block leaves none of them behind."""
    field: Any = attachment._meta.get_field("file")
    storage, name = field.storage, field.generate_filename(attachment, file.name)
    try:
        try:
            name = storage.save(name, file)
        except OSError as error:
            logger.error("An attachment could not be stored: %s", error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InsufficientStorage() from error
            raise Unavailable("The attachment could not be stored. Nothing was saved. Please try again.") from error
        attachment.file.name = name
        yield
    except BaseException:
        try:
            storage.delete(name)
        except OSError as error:
            logger.error("The file %s belongs to no attachment and could not be deleted: %s", name, error)
        raise


class AttachmentDetail(EntityDetail):
    """One attachment. Customers may rename and delete their own uploads."""

    model = Attachment
    serializer_class = AttachmentSerializer
    locked_rows = ("self", "ticket")

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("uploaded_by", "ticket")

    def may_change(self, attachment: Attachment) -> bool:
        return super().may_change(attachment) or attachment.uploaded_by_id == self.request.user.pk


class AttachmentDownload(EntityView):
    model = Attachment

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # The bytes are what they are; an <img> that accepts only images must get them too.
        return super().perform_content_negotiation(request, force=True)

    @extend_schema(
        operation_id="attachments_download", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, id: UUID) -> FileResponse:
        """The bytes, to be saved and never to be shown by the browser as a page of ours."""
        attachment = get_object_or_404(self.get_queryset(), pk=id)
        try:
            file = attachment.file.open("rb")
        except FileNotFoundError:
            logger.error("The file of attachment %s is not in the storage.", attachment.pk)
            raise NotFound("The file is no longer there.", code="file_missing") from None
        except OSError as error:
            logger.error("The file of attachment %s cannot be read: %s", attachment.pk, error)
            raise Unavailable() from None
        response = FileResponse(
            file, as_attachment=True, filename=attachment.filename, content_type=attachment.content_type
        )
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response["Cache-Control"] = "private, no-store"
        return response


includes.offer(
    "attachments",
    Include(
        rows=lambda user, ticket: (
            Attachment.objects.visible_to(user).filter(ticket=ticket).select_related("uploaded_by")
        ),
        serializer=AttachmentSerializer,
        page_schema=AttachmentPageSerializer,
    ),
)
