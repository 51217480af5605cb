from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from helpdesk.accounts.authentication import caller
from helpdesk.api.errors import Forbidden
from helpdesk.api.views import EntityDetail, EntityList
from knowledge.api.serializers import ArticleSerializer
from knowledge.models import Article, ArticleStatus


class ArticleFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=ArticleStatus.choices)
    search = filters.CharFilter(method="matching", max_length=200, help_text="All of these words, in title or body.")

    class Meta:
        model = Article
        fields: list[str] = []

    def matching(self, queryset: QuerySet[Article], name: str, value: str) -> QuerySet[Article]:
        for word in value.split()[:12]:
            queryset = queryset.filter(Q(title__icontains=word) | Q(body__icontains=word))
        return queryset


class ArticleList(EntityList):
    """Articles, newest first. Drafts are for agents and administrators."""

    model = Article
    serializer_class = ArticleSerializer
    filterset_class = ArticleFilter
    orderings = {name: name for field in ("created_at", "updated_at", "title") for name in (field, f"-{field}")}

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("author")

    @extend_schema(responses={201: ArticleSerializer})
    def post(self, request: Request) -> Response:
        """Write an article, as a draft unless `status` says otherwise."""
        data = request.data
        author = caller(request)
        if not author.is_agent_or_admin:
            raise Forbidden("Only agents and administrators write articles.")
        serializer = self.get_serializer(Article(author=author), data=data)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data, status=201)


class ArticleDetail(EntityDetail):
    """One article."""

    model = Article
    serializer_class = ArticleSerializer

    def loaded(self, queryset: QuerySet) -> QuerySet:
        return queryset.select_related("author")
