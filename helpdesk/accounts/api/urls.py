from django.urls import path

from helpdesk.accounts.api import schema, sessions, tokens, users  # noqa: F401  (schema registers itself)

urlpatterns = [
    path("auth/token", tokens.TokenView.as_view()),
    path("auth/token/refresh", tokens.TokenRefreshView.as_view()),
    path("auth/logout", tokens.LogoutView.as_view()),
    path("auth/logout-everywhere", tokens.LogoutEverywhereView.as_view()),
    path("auth/session", sessions.SessionView.as_view()),
    path("auth/register", users.Registration.as_view()),
    path("users", users.UserList.as_view()),
    path("users/me", users.Profile.as_view()),
    path("users/<uuid:id>", users.UserDetail.as_view()),
    path("users/<uuid:id>/deactivate", users.UserDeactivation.as_view()),
    path("users/<uuid:id>/activate", users.UserActivation.as_view()),
]
