from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from helpdesk.changes.actor import acting_as


class ActorMiddleware:
    """The signed-in user of the session is the actor of the request; DRF replaces it when a token signs in.

    `request.user` is lazy: a request that changes nothing asks the database nothing here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with acting_as(request.user):
            return self.get_response(request)
