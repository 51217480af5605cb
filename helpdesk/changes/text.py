"""Text as people may enter it, with limits that keep every webhook body small enough for stock receivers."""

import json
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models

# Express' `express.json()` refuses more than 100 KB; with 64 KB of text and everything beside it a body stays
# under 90 KB (see the contract).
MAX_ENCODED_BYTES = 64_000
MAX_CHARACTERS = 20_000

# Everything a keyboard cannot type, tab and line breaks apart; NUL in particular cannot be stored by PostgreSQL.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def encoded_size(value: str) -> int:
    """Bytes of `value` as a JSON string in UTF-8, the form every body is sent in."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def validate_text(value: str) -> None:
    """Refuse control characters and what would make a body too large."""
    if _CONTROL.search(value):
        raise ValidationError("Control characters are not allowed.", code="control_characters")
    if encoded_size(value) > MAX_ENCODED_BYTES:
        raise ValidationError(f"The text is longer than {MAX_ENCODED_BYTES:,} bytes.", code="too_long")


def validate_line(value: str) -> None:
    """One line of printable text."""
    if _CONTROL.search(value) or "\n" in value or "\r" in value or "\t" in value:
        raise ValidationError("Line breaks and control characters are not allowed.", code="control_characters")


class BoundedTextField(models.TextField):
    """A TextField of at most 20,000 characters and 64,000 bytes encoded, without control characters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", MAX_CHARACTERS)
        super().__init__(*args, **kwargs)
        self.validators.append(MaxLengthValidator(self.max_length))  # a TextField leaves its length to forms

    default_validators = [validate_text]
