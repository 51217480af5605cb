from rest_framework import serializers

from helpdesk.accounts.api.serializers import PersonField
from helpdesk.api.entities import EntitySerializer
from knowledge.models import Article


class ArticleSerializer(EntitySerializer):
    """An article of the knowledge base."""

    author_id = serializers.UUIDField(read_only=True, allow_null=True)
    author = PersonField(allow_null=True)

    class Meta:
        model = Article
        fields = [
            "id",
            "title",
            "body",
            "status",
            "author_id",
            "author",
            "published_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["id", "published_at", "created_at", "updated_at"]
