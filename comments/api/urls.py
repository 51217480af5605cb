from django.urls import path

from comments.api import views

urlpatterns = [
    path("comments", views.CommentList.as_view()),
    path("comments/<uuid:id>", views.CommentDetail.as_view()),
    path("tickets/<uuid:id>/comments", views.TicketComments.as_view()),
]
