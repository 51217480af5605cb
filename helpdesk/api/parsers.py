"""Reading request bodies without trusting them: bounded in size, strict in form."""

import json
from collections.abc import Callable, Mapping
from typing import IO, Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser, MultiPartParser

from helpdesk.api.errors import BodyTooLarge, error_body

# What a multipart body holds beside the file: boundaries, part headers, small fields.
MULTIPART_OVERHEAD = 100_000
_CHUNK = 64 * 1024


def max_upload_bytes() -> int:
    """The largest body that any address of this site takes."""
    return max(settings.MAX_ATTACHMENT_BYTES + MULTIPART_OVERHEAD, settings.MAX_JSON_BYTES)


class BodyLimitMiddleware:
    """Refuses by its Content-Length what no address takes, before anybody reads it.

    The CSRF check reads a form before any parser is asked, so the parsers alone would be too late.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if length.isdigit() and int(length) > max_upload_bytes():
            error = BodyTooLarge(max_upload_bytes())
            return JsonResponse(error_body("body_too_large", str(error.detail)), status=error.status_code)
        return self.get_response(request)


class BoundedJSONParser(JSONParser):
    """JSON of at most MAX_JSON_BYTES, in UTF-8, by the letter of RFC 8259.

    413 when larger. 400 for anything else that is no JSON text: NaN and Infinity, numbers too large to hold,
    nesting too deep to follow, half a surrogate pair (it could neither be stored nor sent again).
    """

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = _read(stream, settings.MAX_JSON_BYTES)
        try:
            value = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
            if b"\\ud" in body or b"\\uD" in body:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.", code="malformed_json") from None
        except UnicodeError:
            raise ParseError("The JSON is not valid UTF-8.", code="malformed_json") from None
        except ValueError as error:
            raise ParseError(f"The JSON could not be read: {error}.", code="malformed_json") from None
        return value


def _read(stream: IO[bytes], limit: int) -> bytes:
    chunks, size = [], 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


class _Meter(FileUploadHandler):
    """Stops an upload as soon as the file is larger than allowed, whatever was announced."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self.received += len(raw_data)
        if self.received > settings.MAX_ATTACHMENT_BYTES:
            raise BodyTooLarge(settings.MAX_ATTACHMENT_BYTES)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None


class BoundedMultiPartParser(MultiPartParser):
    """A form with a file of at most MAX_ATTACHMENT_BYTES; 413 when it is larger."""

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        request: HttpRequest = (parser_context or {})["request"]._request
        request.upload_handlers = [_Meter(request), *request.upload_handlers]
        return super().parse(stream, media_type, parser_context)
