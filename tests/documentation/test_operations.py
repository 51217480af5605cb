"""What `docs/operations.md` says of settings, checks and metrics is what the code does; its snippets are run."""

import ast
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet
from django.core.management import load_command_class
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from helpdesk.management.diagnosis import deployment
from notifications import encryption, health, workers
from notifications.models import WebhookEndpoint
from notifications.webhooks import endpoints
from tests.documentation.pages import REPOSITORY, Page, code_words

PAGE = Page("docs/operations.md")


def settings_read() -> Iterator[tuple[str, ast.expr | None]]:
    """Every variable that the settings read, and its default where one is given."""
    for file in sorted((REPOSITORY / "helpdesk/settings").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "environment":
                name, *rest = node.args
                assert isinstance(name, ast.Constant), ast.unparse(node)
                yield name.value, rest[0] if rest and node.func.attr != "required" else None


DOCUMENTED = {code_words(row[0])[0]: row[1] for row in PAGE.table("variable")}


def test_every_setting_has_its_line():
    assert {name for name, _default in settings_read()} == set(DOCUMENTED)


def test_no_setting_has_two():
    assert len(PAGE.table("variable")) == len(DOCUMENTED)


def constants() -> Iterator[tuple[str, str]]:
    """The settings whose default is one value, as it would be written in the environment."""
    for name, default in settings_read():
        if default is None or any(isinstance(node, ast.Name) for node in ast.walk(default)):
            continue
        value = eval(compile(ast.Expression(default), name, "eval"), {"__builtins__": {}})
        if isinstance(value, (bool, int, str)):
            yield name, str(int(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("name", "default"), sorted(constants()))
def test_defaults(name: str, default: str):
    assert DOCUMENTED[name] == f"`{default}`"


def test_the_settings_of_the_example_start_a_production():
    lines = dict(line.split("=", 1) for line in PAGE.snippet("production.env").splitlines())
    assert set(lines) <= set(DOCUMENTED)
    keys = {"FIELD_ENCRYPTION_KEYS": Fernet.generate_key().decode(), "SECRET_KEY": "x" * 25 + "0123456789" * 4}
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=REPOSITORY,
        env={**os.environ, **lines, **keys, "DATA_DIR": os.environ.get("DATA_DIR", str(REPOSITORY / "var"))},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


def families(client) -> list[Metric]:
    return list(text_string_to_metric_families(client.get("/metrics").content.decode()))


def names(client) -> dict[str, Metric]:
    """Each metric by the name that one asks Prometheus for."""
    return {family.name + "_total" * (family.type == "counter"): family for family in families(client)}


@pytest.mark.django_db
def test_every_metric_has_its_line(client):
    documented = [code_words(row[0])[0] for row in PAGE.table("metric")]
    assert sorted(names(client)) == sorted(documented)


@pytest.mark.django_db
def test_every_label_is_named(client):
    rows = {code_words(row[0])[0]: row[1] for row in PAGE.table("metric")}
    outcomes = [word for row in PAGE.table("outcome of an attempt") for word in code_words(row[0])]
    shown = names(client)
    attempts = shown.pop("helpdesk_webhook_attempts_total")
    assert [sample.labels["outcome"] for sample in attempts.samples] == outcomes
    for name, family in shown.items():
        labels = {value for sample in family.samples for key, value in sample.labels.items() if key != "le"}
        labels |= {key for sample in family.samples for key in sample.labels if key != "le"}
        assert labels <= set(code_words(rows[name])), name


@pytest.mark.django_db
def test_names_follow_the_conventions(client):
    """https://prometheus.io/docs/practices/naming/: a prefix, base units, `_total` for counters alone."""
    for name, family in names(client).items():
        assert re.fullmatch(r"helpdesk(_[a-z]+)+", name)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|count|sum)$", name)
        assert family.documentation.endswith(".")


@pytest.mark.django_db
def test_the_alert_rules_ask_for_what_there_is(client):
    rules = yaml.safe_load((REPOSITORY / "deploy/prometheus/helpdesk.rules.yml").read_text())["groups"][0]["rules"]
    shown = names(client)
    labels = {
        (name, key, value)
        for name, family in shown.items()
        for sample in family.samples
        for key, value in sample.labels.items()
    }
    for rule in rules:
        asked = re.findall(r"(helpdesk_\w+)(?:\{(\w+)!?=\"(\w+)\"\})?", rule["expr"])
        assert asked, rule
        for name, key, value in asked:
            assert name in shown, rule
            assert not key or (name, key, value) in labels, rule
        assert rule["annotations"]["summary"].endswith((".", "?"))


def test_how_long_a_silence_and_a_backlog_may_be():
    rows = {code_words(row[0])[0]: row[2] for row in PAGE.table("metric")}
    silence, backlog = workers.SILENCE.total_seconds(), health.BACKLOG_AGE.total_seconds()
    assert rows["helpdesk_worker_silence_seconds"].startswith(f"above {silence:.0f},")
    assert rows["helpdesk_worker_sweep_age_seconds"].startswith(f"above {silence:.0f},")
    assert rows["helpdesk_webhook_oldest_due_seconds"].startswith(f"above {backlog:.0f}:")
    unpublished = health.UNPUBLISHED_AGE.total_seconds()
    assert rows["helpdesk_events_oldest_unpublished_seconds"].startswith(f"above {unpublished:.0f}:")
    rules = (REPOSITORY / "deploy/prometheus/helpdesk.rules.yml").read_text()
    for metric, limit in (
        ("helpdesk_worker_silence_seconds", silence),
        ("helpdesk_worker_sweep_age_seconds", silence),
        ("helpdesk_webhook_oldest_due_seconds", backlog),
        ("helpdesk_events_oldest_unpublished_seconds", unpublished),
    ):
        assert f"{metric}) > {limit:.0f}" in rules
    assert f"within {['zero', 'one', 'two', 'three'][int(health.PATIENCE)]} seconds" in PAGE.text


def test_what_doctor_checks():
    (sentence,) = re.findall(r"what changes seldom: ([^.]+)\.", PAGE.text)
    # Each check by a word of its name.
    for name in deployment._CHECKS:
        assert any(word in sentence for word in name.split()), name


def test_the_secrets_are_written_anew(agent, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.FIELD_ENCRYPTION_KEYS = [old]
    endpoint, secret = endpoints.create(agent, "https://example.com/hook", own_headers={"X-Key": "0123456789"})
    newer = endpoints.rotate_secret(endpoint)
    settings.FIELD_ENCRYPTION_KEYS = [new, old]
    (code,) = re.findall(r"shell -c '(.*)'", PAGE.snippet("rewrite-secrets"), re.DOTALL)
    exec(code, {})
    settings.FIELD_ENCRYPTION_KEYS = [new]
    found = WebhookEndpoint.objects.get(pk=endpoint.pk)
    assert (found.secrets(), found.headers()) == ([newer, secret], {"X-Key": "0123456789"})
    settings.FIELD_ENCRYPTION_KEYS = [old]
    with pytest.raises(encryption.SecretUnreadable):
        WebhookEndpoint.objects.get(pk=endpoint.pk).secrets()


def test_the_backup_of_sqlite(tmp_path: Path):
    (tmp_path / "var").mkdir()
    with sqlite3.connect(tmp_path / "var/helpdesk.sqlite3") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE kept (word)")
        database.execute("INSERT INTO kept VALUES ('yes')")
    # Still open: what was written last stands in the log beside the file.
    subprocess.run(["sh", "-euc", PAGE.snippet("sqlite-backup")], cwd=tmp_path, check=True)
    copy = sqlite3.connect(tmp_path / "helpdesk-backup.sqlite3")
    assert copy.execute("SELECT word FROM kept").fetchall() == [("yes",)]
    copy.close()
    database.close()


def test_the_import_command():
    line = PAGE.snippet("import").replace("\\\n", " ").split()
    assert line[:3] == [".venv/bin/python", "manage.py", "import_tickets"]
    load_command_class("helpdesk", "import_tickets").create_parser("manage.py", "import_tickets").parse_args(line[3:])
