"""People: signing up, one's own account, and what administrators do with others'."""

import threading

import pytest
from django.db import connection
from rest_framework.throttling import SimpleRateThrottle
from rest_framework_simplejwt.tokens import RefreshToken

from helpdesk.accounts.models import User
from helpdesk.changes.actor import acting_as
from notifications.models import Event

pytestmark = pytest.mark.django_db

NEW_PASSWORD = "staple-battery-42-horse"
NEW = {"username": "dora", "email": "Dora@EXAMPLE.com", "name": "Dora", "password": NEW_PASSWORD}
USER_FIELDS = {
    "id",
    "username",
    "email",
    "name",
    "role",
    "is_active",
    "deactivated_at",
    "created_at",
    "updated_at",
}


class TestRegistration:
    def test_makes_a_customer(self, api, admin):
        response = api().post("/api/auth/register", NEW)
        assert response.status_code == 201
        user = User.objects.get(username="dora")
        assert (user.role, user.is_staff, user.is_superuser, user.email) == (
            "customer",
            False,
            False,
            "Dora@example.com",
        )
        assert user.check_password(NEW_PASSWORD)
        assert set(response.json()) == USER_FIELDS
        assert NEW_PASSWORD not in response.content.decode()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("username", ""),
            ("username", "a b"),
            ("username", "Customer"),
            ("username", "x" * 151),
            ("username", "dora@other.example"),
            ("username", "a\x00b"),
            ("email", ""),
            ("email", "nonsense"),
            ("email", "CUSTOMER@example.com"),
            ("email", "a@b.c\n"),
            ("name", "two\nlines"),
            ("name", "x" * 151),
            ("password", "short"),
            ("password", "1234567890123"),
            ("password", "1q2w3e4r5t6y"),
            ("password", "dora@example.com"),
            ("password", None),
            ("role", "admin"),
            ("is_staff", True),
            ("is_superuser", True),
        ],
    )
    def test_refuses(self, api, refusal, customer, field, value):
        refusal(api().post("/api/auth/register", {**NEW, field: value}), 400, "validation_error", field)
        assert list(User.objects.all()) == [customer]

    @pytest.mark.parametrize("field", ["username", "email", "password"])
    def test_needs(self, api, refusal, field):
        body = {name: value for name, value in NEW.items() if name != field}
        refusal(api().post("/api/auth/register", body), 400, "validation_error", field)

    def test_a_username_may_be_the_email_address(self, api):
        body = {**NEW, "username": "dora@example.com", "email": "dora@example.com"}
        assert api().post("/api/auth/register", body).status_code == 201

    def test_can_be_turned_off(self, api, refusal, settings):
        settings.REGISTRATION_OPEN = False
        refusal(api().post("/api/auth/register", NEW), 403, "permission_denied")
        assert not User.objects.exists()

    def test_is_throttled(self, api, refusal, monkeypatch):
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": None, "user": None, "register": "1/hour"})
        assert api().post("/api/auth/register", NEW).status_code == 201
        refusal(api().post("/api/auth/register", {**NEW, "username": "e", "email": "e@x.org"}), 429, "throttled")


class TestProfile:
    def test_is_the_same_as_administrators_see(self, api, admin, customer):
        mine = api(customer).get("/api/users/me").json()
        assert set(mine) == USER_FIELDS
        assert mine == api(admin).get(f"/api/users/{customer.pk}").json()

    def test_name_and_email_change(self, api, customer):
        response = api(customer).patch("/api/users/me", {"name": "Cleo", "email": "cleo@example.com"})
        assert response.status_code == 200
        assert (response.json()["name"], response.json()["email"]) == ("Cleo", "cleo@example.com")
        event = Event.objects.filter(entity="user", action="updated").latest("id")
        assert event.actor_id == customer.pk
        assert set(event.changes) == {"name", "email"}

    def test_sending_back_what_one_got_changes_nothing(self, api, customer):
        before, events = api(customer).get("/api/users/me").json(), Event.objects.count()
        response = api(customer).patch("/api/users/me", before)
        assert response.json() == before
        assert Event.objects.count() == events

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"email": "ADMIN@example.com"}, "email"),
            ({"email": "nonsense"}, "email"),
            ({"name": "\x07"}, "name"),
            ({"nickname": "x"}, "nickname"),
            ({"password": NEW_PASSWORD}, "current_password"),
            ({"password": NEW_PASSWORD, "current_password": "wrong"}, "current_password"),
            ({"password": NEW_PASSWORD, "current_password": ""}, "current_password"),
        ],
    )
    def test_refuses(self, api, refusal, admin, customer, body, field):
        refusal(api(customer).patch("/api/users/me", body), 400, "validation_error", field)
        before = customer.password, customer.email
        customer.refresh_from_db()
        assert (customer.password, customer.email) == before

    @pytest.mark.parametrize("weak", ["short", "12345678901", "customer@example.com"])
    def test_a_weak_new_password(self, api, refusal, customer, password, weak):
        body = {"password": weak, "current_password": password}
        refusal(api(customer).patch("/api/users/me", body), 400, "validation_error", "password")

    def test_a_new_password_ends_every_token(self, api, refusal, customer, password):
        client, refresh = api(customer), str(RefreshToken.for_user(customer))
        body = {"password": NEW_PASSWORD, "current_password": password}
        response = client.patch("/api/users/me", body)
        assert response.status_code == 200
        assert "password" not in response.json()
        refusal(client.get("/api/users/me"), 401, "password_changed")
        refusal(api().post("/api/auth/token/refresh", {"refresh": refresh}), 401, "password_changed")
        sign_in = {"username": "customer", "password": NEW_PASSWORD}
        assert api().post("/api/auth/token", sign_in).status_code == 200

    def test_a_new_password_ends_every_session_but_this_one(self, api, customer, password):
        here, there = api(), api()
        here.force_login(customer)
        there.force_login(customer)
        body = {"password": NEW_PASSWORD, "current_password": password}
        assert here.patch("/api/users/me", body).status_code == 200
        assert here.get("/api/users/me").status_code == 200
        assert there.get("/api/users/me").status_code == 401

    def test_a_username_that_is_the_email_address_goes_with_it(self, api, refusal, make_user):
        user = make_user("eve@example.com", email="eve@example.com")
        assert api(user).patch("/api/users/me", {"email": "eva@example.com"}).json()["username"] == "eva@example.com"
        refusal(api(user).patch("/api/users/me", {"email": "o'eva@example.com"}), 400, None, "email")
        refusal(api(user).patch("/api/users/me", {"email": ""}), 400, None, "username")


class TestAdministration:
    def test_add_a_person(self, api, admin):
        response = api(admin).post("/api/users", {**NEW, "role": "agent"})
        assert response.status_code == 201
        assert set(response.json()) == USER_FIELDS
        user = User.objects.get(username="dora")
        assert (user.role, user.is_staff, user.check_password(NEW_PASSWORD)) == ("agent", True, True)
        assert Event.objects.get(entity_id=user.pk).actor_id == admin.pk

    def test_a_person_without_a_password_cannot_sign_in(self, api, admin, refusal):
        api(admin).post("/api/users", {"username": "import", "email": ""})
        assert not User.objects.get(username="import").has_usable_password()
        refusal(api().post("/api/auth/token", {"username": "import", "password": "!"}), 401, "invalid_credentials")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"username": "CUSTOMER"}, "username"),
            ({"email": "Customer@example.com"}, "email"),
            ({"role": "king"}, "role"),
            ({"is_active": "maybe"}, "is_active"),
            ({"password": "short"}, "password"),
            ({"username": "someone@example.com"}, "username"),
            ({"is_superuser": True}, "is_superuser"),
        ],
    )
    def test_refuses(self, api, admin, customer, agent, refusal, body, field):
        events = Event.objects.count()
        refusal(api(admin).patch(f"/api/users/{agent.pk}", body), 400, "validation_error", field)
        refusal(api(admin).post("/api/users", {**NEW, **body}), 400, "validation_error", field)
        assert Event.objects.count() == events

    def test_change_a_person(self, api, admin, customer):
        body = {
            "username": "Cleo",
            "email": "cleo@example.com",
            "name": "Cleo",
            "role": "agent",
            "password": NEW_PASSWORD,
        }
        response = api(admin).patch(f"/api/users/{customer.pk}", body)
        assert response.status_code == 200
        customer.refresh_from_db()
        assert (customer.username, customer.role, customer.is_staff) == ("Cleo", "agent", True)
        assert customer.check_password(NEW_PASSWORD)

    def test_deactivate_and_activate(self, api, admin, customer):
        client = api(admin)
        gone = client.post(f"/api/users/{customer.pk}/deactivate").json()
        assert (gone["is_active"], gone["id"]) == (False, str(customer.pk))
        assert gone["deactivated_at"]
        events = Event.objects.count()
        assert client.post(f"/api/users/{customer.pk}/deactivate").json() == gone
        assert Event.objects.count() == events
        back = client.post(f"/api/users/{customer.pk}/activate").json()
        assert (back["is_active"], back["deactivated_at"]) == (True, None)

    def test_patch_deactivates_as_well(self, api, admin, customer, refusal):
        refresh = str(RefreshToken.for_user(customer))
        assert api(admin).patch(f"/api/users/{customer.pk}", {"is_active": False}).json()["is_active"] is False
        api(admin).patch(f"/api/users/{customer.pk}", {"is_active": True})
        refusal(api().post("/api/auth/token/refresh", {"refresh": refresh}), 401, "signed_out")

    def test_nobody_locks_everyone_out(self, api, admin, make_user, refusal):
        client = api(admin)
        refusal(client.post(f"/api/users/{admin.pk}/deactivate"), 403, "permission_denied")
        refusal(client.patch(f"/api/users/{admin.pk}", {"role": "agent"}), 409, "last_admin")
        make_user("inactive", "admin", is_active=False)
        refusal(client.patch(f"/api/users/{admin.pk}", {"role": "agent"}), 409, "last_admin")
        boss = make_user("boss", "admin")
        refusal(client.post(f"/api/users/{admin.pk}/deactivate"), 403, "permission_denied")
        assert client.patch(f"/api/users/{admin.pk}", {"role": "agent"}).status_code == 200
        refusal(api(boss).patch(f"/api/users/{boss.pk}", {"role": "customer"}), 409, "last_admin")

    def test_find_people(self, api, admin, agent, customer, other_customer):
        def names(query: str) -> list[str]:
            return [user["username"] for user in api(admin).get(f"/api/users?{query}").json()["results"]]

        with acting_as(admin):
            other_customer.deactivate()
        assert names("") == ["admin", "agent", "customer", "other_customer"]
        assert names("order=-username&limit=2") == ["other_customer", "customer"]
        assert names("role=agent&role=admin") == ["admin", "agent"]
        assert names("is_active=false") == ["other_customer"]
        assert names("search=CUSTOMER@") == ["customer", "other_customer"]
        assert names("search=Agent") == ["agent"]
        assert names("search=%25") == []

    @pytest.mark.parametrize("query", ["role=king", "page=2", "search=%00", f"search={'x' * 201}", "is_active=x&a=b"])
    def test_queries_that_are_none(self, api, admin, refusal, query):
        refusal(api(admin).get(f"/api/users?{query}"), 400, "validation_error")


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs two writers at once")
def test_two_administrators_cannot_deactivate_each_other_at_once(api, admin, make_user):
    boss = make_user("boss", "admin")
    together, answers = threading.Barrier(2), []

    def deactivate(who: User, whom: User) -> None:
        client = api(who)
        together.wait()
        try:
            answers.append(client.post(f"/api/users/{whom.pk}/deactivate").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=deactivate, args=pair) for pair in ((admin, boss), (boss, admin))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The loser comes after the winner has ended their access (401), or when they would be the last (409).
    assert 200 in answers
    assert set(answers) <= {200, 401, 409}
    assert User.objects.active().filter(role="admin").count() == 1
