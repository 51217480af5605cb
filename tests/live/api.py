"""The HTTP API as one person uses it. Everything the live tests know of URLs and request bodies is here."""

from collections.abc import Iterator
from typing import Any

import requests

from .contract import check_error
from .inbox import WAIT

Entity = dict[str, Any]
DEMO_PASSWORD = "demo-password"
NEW_PASSWORD = "correct-horse-battery-staple-7"


class Api:
    """Requests of one person (`access` None: nobody). Any answer of 500 and above, or an error in another shape
    than the contract's, fails the test whatever it was about."""

    def __init__(self, base: str, access: str | None = None) -> None:
        self.base = base
        self.access = access
        self.session = requests.Session()
        self.session.trust_env = False

    def close(self) -> None:
        self.session.close()

    # --- requests ---

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send and give the answer, whatever it is; `path` may be a whole URL of this system (a page's `next`)."""
        headers = {"Authorization": f"Bearer {self.access}"} if self.access else {}
        headers |= options.pop("headers", {})
        url = path if path.startswith("http") else self.base + path
        response = self.session.request(method, url, headers=headers, timeout=WAIT, **options)
        asked = f"{method} {path} → {response.status_code}: {response.text[:500]}"
        assert response.status_code < 500, asked
        if response.status_code >= 400:
            assert response.headers["Content-Type"].split(";")[0] == "application/json", asked
            check_error(response.json())
        return response

    def ask(self, method: str, path: str, json: Any = None, status: int | None = None, **options: Any) -> Any:
        """Send, insist on success (on `status` where given), and give the JSON."""
        response = self.send(method, path, json=json, **options)
        asked = f"{method} {path} → {response.status_code}: {response.text[:500]}"
        assert (response.status_code == status) if status else (200 <= response.status_code < 300), asked
        return response.json() if response.content else None

    def get(self, path: str, **params: Any) -> Any:
        return self.ask("GET", path, params=params, status=200)

    def refused(self, method: str, path: str, status: int | tuple[int, ...], *fields: str, **options: Any) -> Entity:
        """Send, insist on this refusal, and give the error; `fields` must be named in it."""
        response = self.send(method, path, **options)
        expected = status if isinstance(status, tuple) else (status,)
        asked = f"{method} {path} → {response.status_code}: {response.text[:500]}"
        assert response.status_code in expected, asked
        return check_error(response.json(), *fields)

    def pages(self, path: str, **params: Any) -> Iterator[Entity]:
        """Every entity of a cursor-paginated list, in its order."""
        page = self.get(path, **params)
        while True:
            yield from page["results"]
            if not page["next"]:
                return
            page = self.get(page["next"])

    # --- accounts ---

    def sign_in(self, username: str, password: str = DEMO_PASSWORD) -> "Api":
        """The same system as that person."""
        tokens = self.ask("POST", "/api/auth/token", {"username": username, "password": password}, status=200)
        return Api(self.base, tokens["access"])

    def register(self, username: str) -> Entity:
        return self.ask("POST", "/api/auth/register", self._account(username), status=201)

    def create_user(self, username: str, role: str = "customer") -> Entity:
        return self.ask("POST", "/api/users", {**self._account(username), "role": role}, status=201)

    @staticmethod
    def _account(username: str) -> Entity:
        return {
            "username": username,
            "email": f"{username}@example.com",
            "name": username.replace("-", " ").title(),
            "password": NEW_PASSWORD,
        }

    def deactivate(self, user_id: str) -> Entity:
        return self.ask("POST", f"/api/users/{user_id}/deactivate")

    def user(self, user_id: str) -> Entity:
        return self.get(f"/api/users/{user_id}")

    def me(self) -> Entity:
        return self.get("/api/users/me")

    # --- tickets, comments, attachments, articles ---

    def open_ticket(self, title: str, **fields: Any) -> Entity:
        body = {"title": title, "description": "It does not work.", **fields}
        return self.ask("POST", "/api/tickets", body, status=201)

    def ticket(self, ticket_id: str) -> Entity:
        return self.get(f"/api/tickets/{ticket_id}")

    def change_ticket(self, ticket_id: str, **fields: Any) -> Entity:
        return self.ask("PATCH", f"/api/tickets/{ticket_id}", fields, status=200)

    def delete_ticket(self, ticket_id: str) -> None:
        self.ask("DELETE", f"/api/tickets/{ticket_id}", status=204)

    def comment_on(self, ticket_id: str, content: str, **fields: Any) -> Entity:
        return self.ask("POST", f"/api/tickets/{ticket_id}/comments", {"content": content, **fields}, status=201)

    def comments(self, ticket_id: str) -> list[Entity]:
        return list(self.pages(f"/api/tickets/{ticket_id}/comments"))

    def comment(self, comment_id: str) -> Entity:
        return self.get(f"/api/comments/{comment_id}")

    def change_comment(self, comment_id: str, content: str) -> Entity:
        return self.ask("PATCH", f"/api/comments/{comment_id}", {"content": content}, status=200)

    def delete_comment(self, comment_id: str) -> None:
        self.ask("DELETE", f"/api/comments/{comment_id}", status=204)

    def attach(self, ticket_id: str, name: str, content: bytes, type: str, **fields: Any) -> Entity:
        files = {"file": (name, content, type)}
        return self.ask("POST", f"/api/tickets/{ticket_id}/attachments", files=files, data=fields, status=201)

    def attachment(self, attachment_id: str) -> Entity:
        return self.get(f"/api/attachments/{attachment_id}")

    def rename_attachment(self, attachment_id: str, filename: str) -> Entity:
        return self.ask("PATCH", f"/api/attachments/{attachment_id}", {"filename": filename}, status=200)

    def delete_attachment(self, attachment_id: str) -> None:
        self.ask("DELETE", f"/api/attachments/{attachment_id}", status=204)

    def download(self, attachment_id: str) -> requests.Response:
        return self.send("GET", f"/api/attachments/{attachment_id}/download")

    def write_article(self, title: str, body: str = "Read *this* first.", status: str = "draft") -> Entity:
        return self.ask("POST", "/api/kb/articles", {"title": title, "body": body, "status": status}, status=201)

    def article(self, article_id: str) -> Entity:
        return self.get(f"/api/kb/articles/{article_id}")

    def change_article(self, article_id: str, **fields: Any) -> Entity:
        return self.ask("PATCH", f"/api/kb/articles/{article_id}", fields, status=200)

    # --- notifications and the feed ---

    def notifications(self, type: str | None = None, related_id: str | None = None) -> list[Entity]:
        """The caller's records, filtered here: the contract names no filters."""
        return [
            record
            for record in self.pages("/api/notifications")
            if type in (None, record["type"]) and related_id in (None, record["related_id"])
        ]

    def unread(self) -> int:
        return self.get("/api/notifications/unread-count")["unread"]

    def feed(self, after: Any = None) -> list[Entity]:
        """Every event the caller may see after a cursor, in order: the frames of the plain door.

        A change and one's own notification of it are two frames with one cursor.
        """
        return list(self.pages("/api/events", **({} if after is None else {"after": after})))

    # --- webhooks ---

    def set_webhook(self, url: Any, path: str = "/api/users/me/webhook") -> Entity:
        """Answers {"webhook_url", "secret"}; the secret only when it is new."""
        return self.ask("PUT", path, {"webhook_url": url})

    def remove_webhook(self) -> None:
        self.ask("DELETE", "/api/users/me/webhook", status=204)

    def test_webhook(self) -> Entity:
        """Sends a real `webhook_test` and gives the attempt."""
        return self.ask("POST", "/api/users/me/webhook/test")

    def endpoint(self, url: str) -> Entity:
        """The caller's endpoint with this URL."""
        return next(endpoint for endpoint in self.pages("/api/webhook-endpoints") if endpoint["url"] == url)

    def deliveries(self, endpoint_id: str) -> list[Entity]:
        return list(self.pages(f"/api/webhook-endpoints/{endpoint_id}/deliveries"))

    def delivery(self, delivery_id: str) -> Entity:
        """One delivery with its `attempts`."""
        return self.get(f"/api/webhook-deliveries/{delivery_id}")

    def redeliver(self, delivery_id: str) -> None:
        self.ask("POST", f"/api/webhook-deliveries/{delivery_id}/redeliver")
