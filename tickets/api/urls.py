from django.urls import path

from tickets.api import attachments, views

urlpatterns = [
    path("tickets", views.TicketList.as_view()),
    path("tickets/<uuid:id>", views.TicketDetail.as_view()),
    path("tickets/<uuid:id>/attachments", attachments.TicketAttachments.as_view()),
    path("attachments/<uuid:id>", attachments.AttachmentDetail.as_view()),
    path("attachments/<uuid:id>/download", attachments.AttachmentDownload.as_view()),
]
