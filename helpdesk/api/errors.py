"""One shape for every error: `{"error": {"code": "…", "message": "…", "fields": {"name": ["…"]}}}`.

`code` is for programs and stays; `message` is for people; `fields` names what was wrong field by field and is empty
where no field is to blame. Whatever goes wrong, nobody is shown a traceback.
"""

import errno
import logging
import math
import sys
from typing import Any

from django.core import exceptions as django
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions, status
from rest_framework.fields import get_error_detail
from rest_framework.response import Response
from rest_framework.settings import api_settings

logger = logging.getLogger(__name__)

# Seconds after which a client may try again when the database was away: long enough for a fail-over to be noticed.
RETRY_AFTER_OUTAGE = 5


class Forbidden(exceptions.PermissionDenied):
    """403: the caller may see it, but not do this to it. `fields` names what they may not set."""

    def __init__(self, message: str, fields: dict[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}


class Conflict(exceptions.APIException):
    """409: the request is well formed, but the state of things does not allow it."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "Someone else changed or created the same thing at the same time. Please look again."
    default_code = "conflict"


class BodyTooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"

    def __init__(self, limit: int | None = None) -> None:
        """`limit` in bytes."""
        super().__init__(f"The body is larger than {limit:,} bytes." if limit else "The body is too large.")


class Unavailable(exceptions.APIException):
    """503: not the caller's fault, and likely to pass."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The service is not available at the moment. Please try again."
    default_code = "unavailable"
    wait = RETRY_AFTER_OUTAGE


class InsufficientStorage(exceptions.APIException):
    status_code = status.HTTP_507_INSUFFICIENT_STORAGE
    default_detail = "There is no room left to store this. Nothing was saved."
    default_code = "insufficient_storage"


def error_body(code: str, message: str, fields: dict[str, list[str]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "fields": fields or {}}}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's EXCEPTION_HANDLER. None for what is a bug: Django logs it and answers 500 (`server_error`)."""
    error = _as_api_exception(exc)
    if error is None:
        return None
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    return Response(_body_of(error), status=error.status_code, headers=headers)


def _as_api_exception(exc: BaseException) -> exceptions.APIException | None:
    """What an exception means to the caller; None for a bug of ours."""
    if isinstance(exc, exceptions.APIException):
        return exc
    if isinstance(exc, Http404):
        return exceptions.NotFound()
    if isinstance(exc, django.PermissionDenied):
        return exceptions.PermissionDenied(*exc.args)
    if isinstance(exc, django.ValidationError):
        return exceptions.ValidationError(get_error_detail(exc))
    if isinstance(exc, django.RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(
        exc,
        (django.SuspiciousOperation, django.BadRequest, MultiPartParserError, UnreadablePostError),
    ):
        return exceptions.ParseError("The request could not be read.")
    if isinstance(exc, ProtectedError):
        return Conflict("It is still in use.", code="in_use")
    if isinstance(exc, DatabaseError | InterfaceError):
        return _database_error(exc)
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        logger.error("No room to store an upload: %s", exc)
        return InsufficientStorage()
    return None


def _database_error(exc: DatabaseError | InterfaceError) -> exceptions.APIException | None:
    if isinstance(exc, OperationalError | InterfaceError):
        logger.error("The database did not answer: %s", exc)
        return Unavailable()
    if isinstance(exc, IntegrityError):
        # Two who did the same at once: a unique value taken (23505) or a row gone meanwhile (23503). Any other
        # broken constraint is a bug.
        taken = getattr(exc.__cause__, "sqlstate", None) in ("23505", "23503")
        if taken or str(exc).startswith(("UNIQUE constraint failed", "FOREIGN KEY constraint failed")):
            return Conflict()
    return None


def _body_of(exc: exceptions.APIException) -> dict[str, Any]:
    if isinstance(exc, exceptions.ValidationError):
        return _validation_body(exc)
    detail: Any = exc.detail
    if isinstance(detail, dict):  # simplejwt: {"detail": …, "code": …, "messages": […]}
        return error_body(str(detail.get("code", exc.default_code)), str(detail.get("detail", exc.default_detail)))
    code = "csrf_failed" if str(detail).startswith("CSRF Failed") else getattr(detail, "code", exc.default_code)
    return error_body(str(code), str(detail), getattr(exc, "fields", None))


def _validation_body(exc: exceptions.ValidationError) -> dict[str, Any]:
    fields = flatten(exc.detail)
    general = fields.pop("", [])
    code = "validation_error"
    if general and not fields:
        first = exc.detail[0] if isinstance(exc.detail, list) else None
        code = getattr(first, "code", "invalid")
        code = "validation_error" if code == "invalid" else code
    message = " ".join(general) or f"Not valid: {', '.join(fields)}."
    return error_body(code, message, fields)


def flatten(detail: Any, path: str = "") -> dict[str, list[str]]:
    """Nested error details as {"field": [messages]}; inner fields are named by their path, "tags.0" say.

    What belongs to no field is under "".
    """
    flat: dict[str, list[str]] = {}
    if isinstance(detail, dict):
        pairs = [("" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key), inner) for key, inner in detail.items()]
    elif isinstance(detail, list | tuple):
        pairs = [
            (str(index) if isinstance(inner, dict | list) else "", inner) for index, inner in enumerate(detail) if inner
        ]
    else:
        return {path: [str(detail)]}
    for key, inner in pairs:
        for name, messages in flatten(inner, ".".join(part for part in (path, key) if part)).items():
            flat.setdefault(name, []).extend(messages)
    return flat


# --- Django's own error pages -------------------------------------------------------------------------------------
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 36em"><h1>{title}</h1><p>{message}</p></body></html>
"""


def _answer(request: HttpRequest, code: int, name: str, title: str, message: str) -> HttpResponse:
    """The error in our shape for the API, a small page that needs nothing else for everyone else."""
    if request.path == "/api" or request.path.startswith("/api/"):
        return JsonResponse(error_body(name, message), status=code)
    return HttpResponse(_PAGE.format(title=title, message=message), status=code)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, django.RequestDataTooBig):
        return _answer(request, 413, "body_too_large", "Too large", "The body is too large.")
    return _answer(request, 400, "bad_request", "Bad request", "The request could not be read.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403, "permission_denied", "Not allowed", "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404, "not_found", "Not found", "There is nothing here.")


def server_error(request: HttpRequest) -> HttpResponse:
    """500 for a bug, which Django has logged; 503 when the database was away before a view could say so."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        response = _answer(request, 503, "unavailable", "Not available", str(Unavailable.default_detail))
        response["Retry-After"] = str(RETRY_AFTER_OUTAGE)
        return response
    return _answer(
        request, 500, "internal_error", "Something went wrong", "Something went wrong on our side. It has been logged."
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The CSRF_FAILURE_VIEW. A page that signs in by session sends the cookie's value as `X-CSRFToken`."""
    return _answer(
        request,
        403,
        "csrf_failed",
        "Please try again",
        f"{reason.rstrip('.') or 'The CSRF check failed'}. Reload the page and try again.",
    )
