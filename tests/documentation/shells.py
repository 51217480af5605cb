"""Shell snippets, run as they are printed, one after the other in one shell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.documentation.pages import REPOSITORY
from tests.live.system import System

_END = "--- the end of a snippet ---"


def as_printed(snippet: str, system: System) -> str:
    """The snippet with our interpreter, our port and our checkout in place of the reader's."""
    return (
        snippet.replace("localhost:5000", f"localhost:{system.port}")
        .replace(".venv/bin/python", sys.executable)
        .replace("manage.py", str(REPOSITORY / "manage.py"))
    )


def run(snippets: list[str], system: System, folder: Path) -> list[str]:
    """Run snippets in one shell and give what each wrote; AssertionError if a command of one fails."""
    script = "".join(f"{as_printed(snippet, system)}\necho; echo '{_END}'\n" for snippet in snippets)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), f"{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    return [output.strip() for output in ended.stdout.split(_END)[:-1]]


def last_json(output: str) -> Any:
    """The last JSON text of an output, which may hold several without a line break in between."""
    decoder, place, found = json.JSONDecoder(), 0, None
    while place < len(output):
        if output[place].isspace():
            place += 1
            continue
        found, place = decoder.raw_decode(output, place)
    return found


def difference(printed: Any, real: Any, path: str = "answer") -> list[str]:
    """Where a real answer has not the shape of the printed one: names and kinds; values are the reader's own."""
    if isinstance(printed, dict) and isinstance(real, dict):
        names = [f"{path}.{name}" for name in set(printed) ^ set(real)]
        return names + [
            found
            for name in set(printed) & set(real)
            for found in difference(printed[name], real[name], f"{path}.{name}")
        ]
    if isinstance(printed, list) and isinstance(real, list):
        if not printed:
            return []
        return [path] if not real else difference(printed[0], real[0], f"{path}[]")
    if printed is None or real is None:
        return []
    return [] if type(printed) is type(real) else [path]
