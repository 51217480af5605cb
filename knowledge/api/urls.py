from django.urls import path

from knowledge.api import views

urlpatterns = [
    path("kb/articles", views.ArticleList.as_view()),
    path("kb/articles/<uuid:id>", views.ArticleDetail.as_view()),
]
