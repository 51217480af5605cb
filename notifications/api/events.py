import json
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from helpdesk.accounts.authentication import caller
from notifications.api.serializers import FeedSerializer
from notifications.sockets import replay
from notifications.sockets.events import StreamEvent
from notifications.sockets.limits import REPLAY_PAGE
from notifications.sockets.people import Person
from notifications.sockets.wire import plain_form


class CursorGone(APIException):
    status_code = 410
    default_code = "cursor_gone"


class Feed(APIView):
    """The durable feed: what the caller may see of what happened, in order, in the frames of the plain WebSocket."""

    @extend_schema(
        parameters=[
            OpenApiParameter("after", int, description="The last cursor you have; without it, from the beginning.")
        ],
        responses=FeedSerializer,
        operation_id="events",
    )
    def get(self, request: Request) -> Response:
        """A page of events after a cursor. Ask again with `after` the answer's `cursor`; 410 when it is too old."""
        user, until = caller(request), replay.last_position()
        if "after" in request.query_params:
            after = _cursor(request.query_params["after"])
            page = replay.missed(user.pk, after, until)
            try:
                # After the reading: what is pruned meanwhile is not read over.
                replay.check_reach(after, until)
            except replay.TooMuchMissed as missed:
                raise CursorGone(missed.message, code=missed.reason) from None
        else:
            page = replay.missed(user.pk, replay.pruned_position(), until)  # from where on the log is whole
        person = Person.of(user)
        more = len(page) == REPLAY_PAGE
        last = page[-1].position if more else until  # what is not for the caller need not be looked through again
        results = [frame for event in page for frame in _frames(event, person)]
        url = replace_query_param(request.build_absolute_uri(), "after", str(last))
        return Response({"results": results, "cursor": last, "next": url if more else None})


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationError({"after": ["A cursor is a whole number, as events carry it."]})
    return int(text)


def _frames(event: StreamEvent, person: Person) -> list[dict[str, Any]]:
    """The change itself, then the person's notification of it, as the sockets send them."""
    frames = (event.update_for(person, plain_form), event.notification_for(person, plain_form))
    return [json.loads(frame) for frame in frames if frame is not None]
