"""Management commands as a shell would see them: an exit code and two streams."""

from dataclasses import dataclass
from io import StringIO
from typing import Any

from django.core.management import CommandError, call_command


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def manage(command: str, *arguments: Any) -> Ended:
    """Run a command in this process, with the arguments as on a command line."""
    out, err, code = StringIO(), StringIO(), 0
    try:
        call_command(command, *map(str, arguments), stdout=out, stderr=err)
    except SystemExit as end:
        code = end.code
    except CommandError as error:
        code, _written = error.returncode, err.write(f"{error}\n")
    return Ended(code, out.getvalue(), err.getvalue())
