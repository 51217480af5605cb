from django.urls import path

from notifications.api import endpoints, events, notifications, receiver, recovery, types

urlpatterns = [
    path("users/me/webhook", endpoints.MyWebhook.as_view()),
    path("user/webhook", endpoints.MyWebhook.as_view()),
    path("users/me/webhook/test", endpoints.MyWebhookTest.as_view()),
    path("notifications", notifications.NotificationList.as_view()),
    path("notifications/read-all", notifications.ReadAllNotifications.as_view()),
    path("notifications/unread-count", notifications.UnreadCount.as_view()),
    path("notifications/<uuid:id>/read", notifications.ReadNotification.as_view()),
    path("notifications/webhooks/notifications", receiver.InternalReceiver.as_view()),
    path("webhooks/notifications", receiver.InternalReceiver.as_view()),
    path("webhook-types", types.TypeList.as_view()),
    path("webhook-types/<str:type>", types.TypeDetail.as_view()),
    path("webhook-endpoints", endpoints.EndpointList.as_view()),
    path("webhook-endpoints/<uuid:id>", endpoints.EndpointDetail.as_view()),
    path("webhook-endpoints/<uuid:id>/rotate-secret", endpoints.EndpointSecret.as_view()),
    path("webhook-endpoints/<uuid:id>/test", endpoints.EndpointTest.as_view()),
    path("webhook-endpoints/<uuid:id>/check", endpoints.EndpointCheck.as_view()),
    path("webhook-endpoints/<uuid:id>/deliveries", endpoints.EndpointDeliveries.as_view()),
    path("webhook-endpoints/<uuid:id>/recover", recovery.EndpointRecovery.as_view()),
    path("webhook-deliveries/<uuid:id>", endpoints.DeliveryDetail.as_view()),
    path("webhook-deliveries/<uuid:id>/redeliver", recovery.Redelivery.as_view()),
    path("webhook-deliveries/redeliver", recovery.SelectedRedelivery.as_view()),
    path("webhook-recoveries", recovery.RecoveryList.as_view()),
    path("webhook-recoveries/<uuid:id>", recovery.RecoveryDetail.as_view()),
    path("webhook-recoveries/<uuid:id>/cancel", recovery.RecoveryCancellation.as_view()),
    path("events", events.Feed.as_view()),
]
