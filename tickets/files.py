"""Uploaded files: which are taken, under which name they are kept, what type they are served with."""

import re
from typing import Any
from uuid import uuid4

import filetype
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files import File

# Types that are taken when the first bytes say so. What a browser could run (HTML, SVG, scripts, executables) is
# not among them.
_BINARY_TYPES = {
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/heic", "image/avif",
    "application/pdf", "application/zip", "application/gzip", "application/x-tar", "application/x-7z-compressed",
    "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.presentation", "application/epub+zip", "application/rtf",
    "audio/mpeg", "audio/x-wav", "audio/ogg", "audio/aac", "audio/x-flac", "audio/mp4",
    "video/mp4", "video/webm", "video/quicktime", "video/x-matroska", "video/mpeg", "video/x-msvideo",
}  # fmt: skip
TEXT_TYPE = "text/plain; charset=utf-8"
_SNIFFED_BYTES = 8192
_UNSAFE_NAME = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*\u202a-\u202e\u2066-\u2069]')


def attachment_path(attachment: Any, filename: str) -> str:
    """Where the bytes are kept: under the ticket's id and a random name, never under a name a person chose."""
    return f"{attachment.ticket_id}/{uuid4().hex}"


def clean_filename(name: str) -> str:
    """A name that is safe in a header and on any disk: no path, no control or direction characters, 150 at most."""
    name = _UNSAFE_NAME.sub("_", name.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    stem, dot, extension = name.rpartition(".")
    if len(name) > 150:
        name = f"{stem[: 149 - len(extension)]}{dot}{extension}" if dot and len(extension) < 20 else name[:150]
    return name or "file"


def validate_filename(name: str) -> None:
    if clean_filename(name) != name:
        raise ValidationError("This is not a file name that every system can keep.", code="filename")


def sniffed_type(file: File) -> str:
    """The content type by the file's first bytes. ValidationError for an empty, too large or refused file.

    The name and the type that the client claims are not believed. Text that is valid UTF-8 is served as plain
    text, whatever markup it holds.
    """
    if not file.size:
        raise ValidationError("The file is empty.", code="empty_file")
    if file.size > settings.MAX_ATTACHMENT_BYTES:
        limit = settings.MAX_ATTACHMENT_BYTES / (1024 * 1024)
        raise ValidationError(f"The file is larger than {limit:g} MiB.", code="file_too_large")
    file.seek(0)
    head = file.read(_SNIFFED_BYTES)
    file.seek(0)
    kind = filetype.guess(head)
    if kind is not None:
        if kind.mime in _BINARY_TYPES:
            return kind.mime
        raise ValidationError(f"Files of type {kind.mime} are not accepted.", code="file_type")
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut in two by the end of what was read; anything else is no text.
        if len(head) < _SNIFFED_BYTES or error.start < len(head) - 4:
            raise ValidationError("Files of this type are not accepted.", code="file_type") from None
        text = head[: error.start].decode("utf-8")
    if "\x00" in text:
        raise ValidationError("Files of this type are not accepted.", code="file_type")
    return TEXT_TYPE
