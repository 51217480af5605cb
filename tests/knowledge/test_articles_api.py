"""The knowledge base over the API."""

import pytest

from knowledge.api.serializers import ArticleSerializer
from knowledge.models import Article
from notifications.models import Event, Notification

pytestmark = pytest.mark.django_db

FIELDS = {"id", "title", "body", "status", "author_id", "author", "published_at", "created_at", "updated_at"}


class TestWriting:
    def test_a_draft(self, api, agent, customer):
        response = api(agent).post("/api/kb/articles", {"title": "How to scan", "body": "# Scan\n\nPress *scan*."})
        assert response.status_code == 201
        body = response.json()
        assert set(body) == FIELDS
        assert (body["status"], body["published_at"], body["author"]["name"]) == ("draft", None, "Agent")
        assert body["body"] == "# Scan\n\nPress *scan*."
        assert not Notification.objects.filter(type="kb_article_created").exists()

    def test_publish(self, api, agent, customer, draft):
        path = f"/api/kb/articles/{draft.pk}"
        published = api(agent).patch(path, {"status": "published"}).json()
        assert published["published_at"]
        assert api(customer).get(path).json() == published
        assert Notification.objects.filter(type="kb_article_created", recipient=customer).count() == 1
        taken_back = api(agent).patch(path, {"status": "draft"}).json()
        assert taken_back["published_at"] == published["published_at"]
        assert api(customer).get(path).status_code == 404

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("title", ""),
            ("title", "x" * 201),
            ("title", "a\nb"),
            ("body", ""),
            ("body", "x" * 20_001),
            ("body", "\x00"),
            ("status", "secret"),
            ("status", None),
            ("content", "x"),
        ],
    )
    def test_refuses(self, api, agent, draft, refusal, field, value):
        body = {"title": "How", "body": "So", field: value}
        refusal(api(agent).post("/api/kb/articles", body), 400, "validation_error", field)
        refusal(api(agent).patch(f"/api/kb/articles/{draft.pk}", {field: value}), 400, "validation_error", field)
        assert list(Article.objects.values_list("title")) == [("How to fax",)]

    def test_sending_back_what_one_got_changes_nothing(self, api, agent, article):
        path, events = f"/api/kb/articles/{article.pk}", Event.objects.count()
        before = api(agent).get(path).json()
        assert api(agent).patch(path, before).json() == before
        assert Event.objects.count() == events

    def test_delete(self, api, agent, article, refusal):
        path = f"/api/kb/articles/{article.pk}"
        assert api(agent).delete(path).status_code == 204
        refusal(api(agent).get(path), 404, "not_found")


class TestFinding:
    @pytest.mark.parametrize(
        ("query", "titles"),
        [
            ("", ["How to fax", "How to print"]),
            ("order=title", ["How to fax", "How to print"]),
            ("order=-title", ["How to print", "How to fax"]),
            ("status=published", ["How to print"]),
            ("search=PRINT", ["How to print"]),
            ("search=how+press", ["How to print"]),
            ("search=how+nothing", []),
            ("search=%25", []),
        ],
    )
    def test_filters(self, api, agent, article, draft, query, titles):
        assert [row["title"] for row in api(agent).get(f"/api/kb/articles?{query}").json()["results"]] == titles

    @pytest.mark.parametrize("query", ["status=secret", "q=x", "search=%00", f"search={'x' * 201}", "order=body"])
    def test_queries_that_are_none(self, api, agent, refusal, query):
        refusal(api(agent).get(f"/api/kb/articles?{query}"), 400, "validation_error", query.split("=")[0])


def test_the_json_of_notifications_asks_nothing_of_the_database(article, django_assert_num_queries):
    article = Article.objects.select_related("author").get(pk=article.pk)
    with django_assert_num_queries(0):
        assert set(ArticleSerializer(article).data) == FIELDS
