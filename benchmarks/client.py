"""A signed-in person's requests to the WSGI application, made as a WSGI server makes them: every middleware, every
signal, the token in its header, the body read to its end.
"""

import io
import json
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

from django.core.wsgi import get_wsgi_application
from rest_framework_simplejwt.tokens import AccessToken

from helpdesk.accounts.models import User

_application: Callable[..., Any] | None = None


class Client:
    def __init__(self, user: User) -> None:
        global _application
        if _application is None:
            _application = get_wsgi_application()
        self._environ: dict[str, Any] = {
            "HTTP_HOST": "localhost",
            "HTTP_ACCEPT": "application/json",
            "HTTP_AUTHORIZATION": f"Bearer {AccessToken.for_user(user)}",
            "REMOTE_ADDR": "127.0.0.1",
        }
        setup_testing_defaults(self._environ)

    def get(self, path: str) -> bytes:
        """The body. RuntimeError for anything but 200."""
        return self._ask("GET", path, b"", expected="200")

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of the answer. RuntimeError for anything but 201."""
        return self._ask("POST", path, json.dumps(body).encode(), expected="201")

    def _ask(self, method: str, path: str, body: bytes, expected: str) -> bytes:
        path, _, query = path.partition("?")
        environ = {
            **self._environ,
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": "application/json" if body else "",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        answered: list[str] = []
        response = _application(environ, lambda status, headers, error=None: answered.append(status))
        try:
            content = b"".join(response)
        finally:
            response.close()
        if not answered[0].startswith(expected):
            raise RuntimeError(f"{method} {path}?{query} was answered with {answered[0]}: {content[:500]!r}")
        return content
