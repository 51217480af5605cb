"""What `deploy/` ships is well-formed, and says the same as the documentation and as its other parts."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme
import yaml

from tests.documentation.pages import REPOSITORY, Page, code_words
from tests.live.conftest import unavailable

DEPLOY = REPOSITORY / "deploy"
OPERATIONS = Page("docs/operations.md")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
UNITS = sorted((DEPLOY / "systemd").iterdir())
# Which unit does what a service of the compose file does.
SAME = {
    "web": "helpdesk-web.service",
    "sockets-1": "helpdesk-sockets@.service",
    "sockets-2": "helpdesk-sockets@.service",
    "worker": "helpdesk-worker.service",
    "beat": "helpdesk-beat.service",
}


def started(unit: str) -> list[str]:
    """The words of a unit's command, as compose writes them: in a container everything is on its own host."""
    (line,) = re.findall(r"^ExecStart=/opt/helpdesk/.venv/bin/(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.M)
    return line.replace("127.0.0.1", "0.0.0.0").replace("%i", "8001").split()


@pytest.mark.parametrize("service", SAME)
def test_compose_and_systemd_start_the_same(service: str):
    assert COMPOSE[service]["command"].split() == started(SAME[service])


@pytest.mark.parametrize("service", SAME)
def test_no_container_has_more_than_it_needs(service: str):
    assert COMPOSE[service]["cap_drop"] == ["ALL"]
    assert COMPOSE[service]["read_only"] is True
    assert COMPOSE[service]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_documented_commands_are_theirs():
    commands = [code_words(row[1])[0].split() for row in OPERATIONS.table("process") if "`" in row[1]]
    units = {words[0] + (words[3] if words[0] == "celery" else ""): words for words in map(started, set(SAME.values()))}
    for name, *options in commands:
        words = units[name + (options[2] if name == "celery" else "")]
        assert set(options) - {"127.0.0.1", "127.0.0.1:8000"} <= set(words)
    assert len(commands) == len(units)


def test_nobody_is_waited_for_longer_than_the_service_manager_does(settings):
    """`SHUTDOWN_SECONDS`, the publisher's 5, and uvicorn's own."""
    unit = (DEPLOY / "systemd/helpdesk-sockets@.service").read_text()
    (graceful,) = map(int, re.findall(r"--timeout-graceful-shutdown (\d+)", unit))
    (patience,) = map(int, re.findall(r"TimeoutStopSec=(\d+)", unit))
    assert settings.SHUTDOWN_SECONDS + 5 + graceful < patience
    for service in ("sockets-1", "sockets-2"):
        assert COMPOSE[service]["stop_grace_period"] == f"{patience}s"


def test_the_settings_to_begin_with_are_those_of_the_page():
    lines = (DEPLOY / "helpdesk.env").read_text().splitlines()
    names = {line.lstrip("#").split("=")[0] for line in lines if re.match(r"#?[A-Z_]+=", line)}
    assert names <= {code_words(row[0])[0] for row in OPERATIONS.table("variable")}
    example = [line.split("=")[0] for line in OPERATIONS.snippet("production.env").splitlines()]
    assert set(example) <= names


def test_the_units_are_well_formed(tmp_path: Path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/helpdesk/.venv/bin/", "/bin/").replace("/opt/helpdesk", str(tmp_path))
        # The programs need not be installed where this runs: any that there is will do.
        (tmp_path / unit.name).write_text(re.sub(r"/bin/(gunicorn|uvicorn|celery) ", "/bin/sh ", text))
    checked = subprocess.run(
        [analyze, "verify", *(str(tmp_path / unit.name) for unit in UNITS)], capture_output=True, text=True
    )
    ours = [line for line in checked.stderr.splitlines() if "helpdesk" in line]
    assert ours == []
    assert checked.returncode == 0, checked.stderr


def test_the_configuration_of_nginx_is_well_formed(tmp_path: Path):
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        unavailable("nginx is not installed")
    certificate = trustme.CA().issue_cert("help.example.com")
    certificate.private_key_pem.write_to_path(tmp_path / "help.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "help.pem")
    (tmp_path / "helpdesk").symlink_to(DEPLOY / "nginx")
    changes = {
        "/etc/nginx/helpdesk": str(tmp_path / "helpdesk"),
        "/etc/ssl/help.example.com.pem": str(tmp_path / "help.pem"),
        "/etc/ssl/help.example.com.key": str(tmp_path / "help.key"),
        # The names of containers, which only they can look up.
        "web:8000": "127.0.0.1:8000",
        "sockets-1:": "127.0.0.1:",
        "sockets-2:": "127.0.0.2:",
    }
    for name in ("helpdesk.conf", "compose.conf"):
        text = (DEPLOY / "nginx" / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        (tmp_path / "nginx.conf").write_text(
            f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; include {tmp_path / name}; }}"
        )
        checked = subprocess.run(
            [nginx, "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
