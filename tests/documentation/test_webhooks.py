"""What `docs/webhooks.md` says of schedule, states, URLs, codes and commands is what the code does."""

import json
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import load_command_class

from notifications.api.serializers import WebhookAttemptSerializer
from notifications.models import DeliveryState
from notifications.webhooks import destination, endpoint_health, endpoints, headers, schedule
from notifications.webhooks.destination import DestinationRefused

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "webhooks.md").read_text(encoding="utf-8")


def table(title: str) -> list[list[str]]:
    """The rows of the table whose header begins with this cell."""
    lines = TEXT.split(f"\n| {title} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def snippets(language: str) -> list[str]:
    """The snippets of a language, or of a language and a name: `json health`."""
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_schedule():
    seconds = {"second": 1, "minute": 60, "hour": 3600}
    documented = []
    for number, (attempt, after) in enumerate(table("attempt"), start=1):
        assert int(attempt) == number
        amount, _, unit = after.partition(" ")
        documented.append(0 if after == "at once" else int(amount) * seconds[unit.rstrip("s")])
    assert tuple(documented) == schedule.DELAYS


def test_every_state():
    assert [row[0].strip("`") for row in table("state of a delivery")] == DeliveryState.values


@pytest.mark.parametrize(("url", "accepted", "why"), table("URL"))
def test_which_urls_are_accepted_in_production(settings, url, accepted, why):
    settings.WEBHOOK_ALLOWED_NETWORKS = ()
    settings.PUBLIC_URL = "http://localhost:5000"
    if accepted == "yes":
        assert endpoints.normalize_url(url.strip("`"))
        return
    with pytest.raises(DestinationRefused) as refusal:
        endpoints.normalize_url(url.strip("`"))
    assert why.startswith(f"`{refusal.value.code}`")


def test_every_error_code():
    """Whatever an attempt can have as `error_code` is explained."""
    sources = ["diagnosis", "guard", "http", "sending"]
    code = "\n".join((REPOSITORY / f"notifications/webhooks/{name}.py").read_text() for name in sources)
    used = set(re.findall(r'Failure\(\s*"(\w+)"', code)) | set(re.findall(r'error="(\w+)"', code))
    used |= set(re.findall(r'DestinationRefused\(\s*"(\w+)"', code + Path(destination.__file__).read_text()))
    documented = {code for row in table("`error_code`") for code in re.findall(r"`([^`]+)`", row[0])}
    assert {code for code in used if not code.startswith("url_")} | {"url_…"} == documented


def test_the_shape_of_a_body():
    example = json.loads(re.sub(r"//.*", "", snippets("jsonc")[0]))
    assert list(example) == ["event", "notification", "data"]
    assert list(example["notification"]) == ["id", "type", "message", "related_id", "related_type", "created_at"]
    assert {"id", "content", "author_id", "ticket_id", "created_at", "updated_at"} <= set(example["data"])


def test_the_example_is_what_the_api_shows(api, agent):
    (documented,) = snippets("json attachment_deleted")
    assert json.loads(documented) == api(agent).get("/api/webhook-types/attachment_deleted").json()["example"]


def test_headers_as_they_are_given_and_read(api, agent):
    (given,) = snippets("json headers")
    body = json.loads(given)
    body["headers"] = {name: value.replace("…", "") for name, value in body["headers"].items()}
    made = api(agent).post("/api/webhook-endpoints", body)
    assert made.status_code == 201
    assert made.json()["headers"] == dict.fromkeys(body["headers"])


def test_every_reserved_header_and_every_limit():
    documented = {name.lower() for row in table("header") for name in re.findall(r"`([A-Z][^`]*)`", row[0])}
    assert documented == set(headers._RESERVED) | {f"{prefix}…" for prefix in headers._RESERVED_PREFIXES}
    limits = f"At most {headers.MAX_HEADERS} headers, names up to {headers.MAX_NAME} and values up to"
    assert f"{limits} {headers.MAX_VALUE:,} characters, together up to {headers.MAX_TOTAL:,}." in TEXT


def test_health_has_these_fields(api, agent):
    (documented,) = snippets("json health")
    endpoint, _ = endpoints.create(agent, "http://127.0.0.1:9/hook")
    real = api(agent).get(f"/api/webhook-endpoints/{endpoint.pk}").json()["health"]
    example = json.loads(documented)
    assert list(example) == list(real)
    assert list(example["recent"]) == list(real["recent"])
    assert f"at most {endpoint_health.SAMPLE}: how many" in TEXT


def test_every_field_of_an_attempt():
    documented = [name for row in table("field of an attempt") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(documented) == sorted(WebhookAttemptSerializer.Meta.fields)


def commands() -> list[str]:
    return [line for text in snippets("sh") for line in text.splitlines() if "manage.py" in line]


@pytest.mark.parametrize("line", commands())
def test_every_command_can_be_given_as_written(line):
    program, script, name, *arguments = shlex.split(line)
    assert (program, script) == (".venv/bin/python", "manage.py")
    load_command_class("notifications", name).create_parser("manage.py", name).parse_args(arguments)
