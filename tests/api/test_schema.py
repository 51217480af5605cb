"""The OpenAPI document says what the API does."""

import pytest
from django.core.management import call_command
from drf_spectacular.validation import validate_schema

from helpdesk.changes.text import MAX_CHARACTERS

pytestmark = pytest.mark.django_db


@pytest.fixture
def schema(api):
    return api().get("/api/schema?format=json").json()


def test_is_valid_and_free_of_warnings(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_is_served_valid(schema):
    validate_schema(schema)
    assert schema["openapi"].startswith("3.")


def test_every_operation_names_the_one_error_shape(schema):
    operations = [
        (path, method, operation) for path, methods in schema["paths"].items() for method, operation in methods.items()
    ]
    assert len(operations) > 50
    for path, method, operation in operations:
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error == {"$ref": "#/components/schemas/Error"}, (path, method)
    assert set(schema["components"]["schemas"]["ErrorDetail"]["required"]) == {"code", "message", "fields"}


def test_every_operation_has_a_summary_of_its_own(schema):
    for path, methods in schema["paths"].items():
        summaries = [operation["summary"] for operation in methods.values()]
        assert all(0 < len(summary) <= 110 and "`" not in summary for summary in summaries), (path, summaries)
        assert len(set(summaries)) == len(summaries), path
    comment = schema["paths"]["/api/comments/{id}"]
    assert {method: operation["summary"] for method, operation in comment.items()} == {
        "get": "One comment", "patch": "Change one comment", "delete": "Delete one comment",
    }  # fmt: skip
    assert schema["paths"]["/api/tickets"]["post"]["summary"] == "Open a ticket"


def test_lists_are_pages(schema):
    for path in ("tickets", "comments", "kb/articles", "users", "tickets/{id}/comments", "tickets/{id}/attachments"):
        operation = schema["paths"][f"/api/{path}"]["get"]
        assert {"cursor", "limit", "order"} <= {parameter["name"] for parameter in operation["parameters"]}
        page = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        assert set(schema["components"]["schemas"][page]["required"]) == {"results", "next", "previous"}


def test_limits_of_texts_are_told(schema):
    schemas = schema["components"]["schemas"]
    assert schemas["Comment"]["properties"]["content"]["maxLength"] == MAX_CHARACTERS
    assert schemas["TicketRequest"]["properties"]["title"]["maxLength"] == 200


def test_the_entities_are_what_is_answered(schema, api, admin, ticket, comment, article, make_attachment):
    """Every field of an answer is in the document, and the other way round."""
    attachment = make_attachment(ticket, admin)
    for name, path in (
        ("Ticket", f"tickets/{ticket.pk}"),
        ("Comment", f"comments/{comment.pk}"),
        ("Article", f"kb/articles/{article.pk}"),
        ("Attachment", f"attachments/{attachment.pk}"),
        ("User", f"users/{admin.pk}"),
    ):
        assert set(schema["components"]["schemas"][name]["properties"]) == set(api(admin).get(f"/api/{path}").json())


def test_the_page_needs_no_other_site(api):
    page = api().get("/api/docs", headers={"Accept": "text/html"}).content.decode()
    assert "/static/drf_spectacular_sidecar/" in page
    assert "https://" not in page.replace("https://localhost", "")


def test_tokens_and_sessions_are_described(schema):
    schemes = schema["components"]["securitySchemes"]
    assert schemes["token"]["scheme"] == "bearer"
    assert schemes["session"]["in"] == "cookie"
    assert {"token": []} in schema["paths"]["/api/tickets"]["get"]["security"]
