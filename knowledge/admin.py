from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from helpdesk.accounts.authentication import caller
from helpdesk.changes.admin import VisibleAdmin, badge
from knowledge.models import Article


@admin.register(Article)
class ArticleAdmin(VisibleAdmin):
    list_display = ("title", "status_badge", "author", "published_at", "updated_at")
    list_filter = ("status",)
    list_select_related = ("author",)
    search_fields = ("title", "body")
    search_help_text = "Words of the title or the text"
    readonly_fields = ("written_by", "published_at", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("title", "body", "status")}),
        ("Author and dates", {"fields": ("written_by", "published_at", "created_at", "updated_at")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Article | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:1]

    def save_model(self, request: HttpRequest, obj: Article, form: Any, change: bool) -> None:
        if not change:
            obj.author = caller(request)
        super().save_model(request, obj, form, change)

    @admin.display(description="author")
    def written_by(self, article: Article) -> str:
        return str(article.author or "the system")

    @admin.display(description="status", ordering="status")
    def status_badge(self, article: Article) -> SafeString:
        return badge("article", article.status, article.get_status_display())
