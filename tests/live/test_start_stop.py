"""The one command: it starts, watches and stops everything, and says in one line what is wrong."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .inbox import eventually
from .system import REPOSITORY, START, installation

pytestmark = [pytest.mark.live, pytest.mark.once]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_stops_all_of_it_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    with installation(tmp_path, from_nothing=how == signal.SIGTERM) as system:
        system.start()
        assert len(system.survivors()) > 1
        assert system.stop(how) == 0
        eventually(lambda: not system.survivors(), "every process gone")
        assert "Traceback" not in system.log()
        # The same data, a second time: nothing is seeded or migrated twice.
        system.start()
        assert system.stop() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "postgres://nobody:secret-word@127.0.0.1:1/none"),
        ("REDIS_URL", "nonsense"),
        ("PORT", "many"),
    ],
)
def test_a_wrong_setting_is_one_readable_line(tmp_path: Path, name: str, value: str) -> None:
    with installation(tmp_path) as system:
        environment = {**system.environment, name: value}
        if name == "PORT":
            command = [sys.executable, "manage.py", "serve"]
        else:
            command = [sys.executable, "manage.py", "serve", "--port", str(system.port)]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=START)
        assert result.returncode not in (0, None)
        said = (result.stdout + result.stderr).strip()
        assert "Traceback" not in said
        assert name in said
        assert "secret-word" not in said
        assert len(said.splitlines()) == 1, said
