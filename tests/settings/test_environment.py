"""What the readers of environment variables take, and the one line that refuses the rest."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from helpdesk.settings import environment


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("443", (range(443, 444),)),
        ("80, 443,8000-8999", (range(80, 81), range(443, 444), range(8000, 9000))),
        ("65535", (range(65535, 65536),)),
    ],
)
def test_ports(monkeypatch, text, ports):
    monkeypatch.setenv("WEBHOOK_PORTS", text)
    assert environment.ports("WEBHOOK_PORTS", "1") == ports


@pytest.mark.parametrize("text", ["0", "65536", "80-70", "a", "80-", "-80", "80,,443", "²", "1-2-3", "9" * 5000])
def test_what_is_no_port(monkeypatch, text):
    monkeypatch.setenv("WEBHOOK_PORTS", text)
    with pytest.raises(ImproperlyConfigured, match="WEBHOOK_PORTS"):
        environment.ports("WEBHOOK_PORTS", "443")


def test_a_file(monkeypatch, tmp_path):
    assert environment.file("WEBHOOK_CA_BUNDLE") is None
    bundle = tmp_path / "authorities.pem"
    monkeypatch.setenv("WEBHOOK_CA_BUNDLE", str(bundle))
    with pytest.raises(ImproperlyConfigured, match=r"cannot be read .No such file or directory"):
        environment.file("WEBHOOK_CA_BUNDLE")
    bundle.touch()
    assert environment.file("WEBHOOK_CA_BUNDLE") == str(bundle)


@pytest.mark.parametrize("rate", ["10/min", "1/sec", "100/hour", "5/d"])
def test_a_rate(monkeypatch, rate):
    monkeypatch.setenv("THROTTLE_USER", rate)
    assert environment.rate("THROTTLE_USER", "1/min") == rate


@pytest.mark.parametrize("rate", ["10", "0/min", "10/fortnight", "x/min", "10 / min", "-1/min"])
def test_what_is_no_rate(monkeypatch, rate):
    monkeypatch.setenv("THROTTLE_USER", rate)
    with pytest.raises(ImproperlyConfigured, match="THROTTLE_USER"):
        environment.rate("THROTTLE_USER", "1/min")


def test_networks(monkeypatch):
    monkeypatch.setenv("WEBHOOK_OWN_ADDRESSES", "203.0.113.7, 2001:db8::/32")
    assert environment.networks("WEBHOOK_OWN_ADDRESSES") == ["203.0.113.7", "2001:db8::/32"]
    monkeypatch.setenv("WEBHOOK_OWN_ADDRESSES", "203.0.113.7/8")
    with pytest.raises(ImproperlyConfigured, match=r"has host bits set .write networks as 10\.20\.0\.0/16"):
        environment.networks("WEBHOOK_OWN_ADDRESSES")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"WEBHOOK_RETENTION_DAYS": "0"}, "WEBHOOK_RETENTION_DAYS must not be longer than EVENT_RETENTION_DAYS"),
        ({"WEBHOOK_RETENTION_DAYS": "90", "EVENT_RETENTION_DAYS": "30"}, "must not be longer"),
        ({"DELETED_RETENTION_DAYS": "-1"}, "DELETED_RETENTION_DAYS=-1 is below the smallest allowed value, 0"),
        ({"WEBHOOK_RECOVERY_PER_MINUTE": "7000"}, "more than WEBHOOK_RECOVERY_MAX_PER_MINUTE allows"),
        ({"WEBHOOK_RETENTION_DAYS": "0", "EVENT_RETENTION_DAYS": "0"}, ""),
    ],
)
def test_retention_and_rates_that_contradict_each_other_stop_the_start(tmp_path, given, words):
    tried = subprocess.run(
        [sys.executable, "-c", "import helpdesk.settings"],
        env={**os.environ, "DATA_DIR": str(tmp_path), **given},
        capture_output=True,
        text=True,
    )
    assert (tried.returncode != 0) == bool(words), tried.stderr
    assert words in tried.stderr
