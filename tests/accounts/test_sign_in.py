"""Tokens and sessions: who gets in, how long, and what ends it."""

import logging
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.db import connection
from rest_framework.throttling import SimpleRateThrottle
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from helpdesk.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def sign_in(api, password):
    def sign_in(login: str, given: str = password, **extra):
        return api().post("/api/auth/token", {"username": login, "password": given, **extra})

    return sign_in


@pytest.fixture
def refresh(api):
    return lambda token: api().post("/api/auth/token/refresh", {"refresh": token})


def bearer(api, access: str):
    return api(HTTP_AUTHORIZATION=f"Bearer {access}")


class TestToken:
    @pytest.mark.parametrize(
        "login", ["customer", "CUSTOMER", "customer@example.com", "Customer@Example.COM", "ｃustomer"]
    )
    def test_username_or_email_in_any_letter_case(self, sign_in, api, customer, login):
        pair = sign_in(login).json()
        assert set(pair) == {"access", "refresh"}
        assert bearer(api, pair["access"]).get("/api/users/me").json()["id"] == str(customer.pk)

    def test_the_email_may_have_a_field_of_its_own(self, api, customer, password):
        body = {"email": "customer@example.com", "password": password}
        assert api().post("/api/auth/token", body).status_code == 200

    def test_a_stale_token_does_not_keep_one_from_signing_in(self, api, customer, password):
        body = {"username": "customer", "password": password}
        assert bearer(api, "stale").post("/api/auth/token", body).status_code == 200

    @pytest.mark.parametrize(
        ("login", "given"),
        [
            ("customer", "wrong"),
            ("nobody", None),
            ("gone", None),
            ("without", None),
            ("without", "!"),
            ("customer", ""),
        ],
    )
    def test_one_answer_for_every_wrong_sign_in(self, sign_in, refusal, customer, make_user, password, login, given):
        make_user("gone", is_active=False)
        make_user("without", password=None)
        response = sign_in(login, password if given is None else given)
        if given == "":
            refusal(response, 400, "validation_error", "password")
            return
        error = refusal(response, 401, "invalid_credentials")
        assert error["message"] == "The username or the password is wrong, or the account is not active."
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'

    @pytest.mark.parametrize("login", ["customer", "nobody", "gone"])
    def test_one_hash_for_every_wrong_sign_in(self, sign_in, customer, make_user, monkeypatch, login):
        """What takes the time is done once, whether the person is known or not."""
        make_user("gone", is_active=False)
        hashed = []
        encode = MD5PasswordHasher.encode
        monkeypatch.setattr(MD5PasswordHasher, "encode", lambda *args: hashed.append(1) or encode(*args))
        assert sign_in(login, "wrong").status_code == 401
        assert len(hashed) == 1

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "password"),
            ({"username": "customer"}, "password"),
            ({"password": "x"}, "username"),
            ({"username": "", "password": "x"}, "username"),
            ({"username": None, "password": "x"}, "username"),
            ({"username": "a\x00", "password": "x"}, "username"),
            ({"username": ["a"], "password": "x"}, "username"),
            ({"username": "a", "password": "x" * 1025}, "password"),
            ({"username": "a" * 255, "password": "x"}, "username"),
            ({"username": "customer", "password": {"$ne": ""}}, "password"),
        ],
    )
    def test_credentials_of_another_form(self, api, refusal, customer, body, field):
        refusal(api().post("/api/auth/token", body), 400, "validation_error", field)

    def test_is_throttled_for_everyone_at_an_address(self, sign_in, refusal, customer, monkeypatch):
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": None, "user": None, "sign-in": "3/min"})
        assert [sign_in(f"guess{n}").status_code for n in range(3)] == [401] * 3
        response = sign_in("customer")
        refusal(response, 429, "throttled")
        assert 0 < int(response["Retry-After"]) <= 60

    def test_no_password_or_token_is_logged(self, sign_in, caplog, customer, password):
        with caplog.at_level(logging.DEBUG):
            pair = sign_in("customer").json()
            sign_in("customer", "wrong-but-secret")
        for secret in (password, "wrong-but-secret", pair["access"], pair["refresh"]):
            assert secret not in caplog.text


class TestRefresh:
    def test_is_good_for_one_new_pair(self, sign_in, refresh, refusal, api, customer):
        old = sign_in("customer").json()["refresh"]
        pair = refresh(old).json()
        assert bearer(api, pair["access"]).get("/api/users/me").status_code == 200
        refusal(refresh(old), 401, "token_not_valid")
        assert refresh(pair["refresh"]).status_code == 200

    def test_of_what_is_no_refresh_token(self, sign_in, refresh, refusal, customer):
        pair = sign_in("customer").json()
        expired = RefreshToken.for_user(customer)
        expired.set_exp(lifetime=-timedelta(seconds=1))
        forged = pair["refresh"][:-3] + "abc"
        for token in (pair["access"], str(expired), forged, "nonsense", "a.b.c"):
            refusal(refresh(token), 401, "token_not_valid")
        refusal(refresh(""), 400, "validation_error", "refresh")
        refusal(refresh("x" * 5000), 400, "validation_error", "refresh")

    def test_ends_with_the_person(self, sign_in, refresh, refusal, api, admin, customer):
        pair = sign_in("customer").json()
        api(admin).post(f"/api/users/{customer.pk}/deactivate")
        refusal(refresh(pair["refresh"]), 401, "user_inactive")
        refusal(bearer(api, pair["access"]).get("/api/users/me"), 401, "user_inactive")
        api(admin).post(f"/api/users/{customer.pk}/activate")
        refusal(refresh(pair["refresh"]), 401, "signed_out")
        refusal(bearer(api, pair["access"]).get("/api/users/me"), 401, "signed_out")
        assert sign_in("customer").status_code == 200

    def test_ends_with_a_deactivation_that_bypassed_the_api(self, sign_in, refresh, refusal, customer):
        token = sign_in("customer").json()["refresh"]
        User.objects.filter(pk=customer.pk).update_without_signals(is_active=False)
        refusal(refresh(token), 401, "user_inactive")
        assert OutstandingToken.objects.count() == 1
        person = User.objects.get(pk=customer.pk)
        person.is_active = True
        person.save()
        refusal(refresh(token), 401, "signed_out")
        assert sign_in("customer").status_code == 200

    def test_no_save_of_what_was_loaded_before_brings_it_back(self, sign_in, refresh, refusal, customer):
        token = sign_in("customer").json()["refresh"]
        stale = User.objects.get(pk=customer.pk)
        customer.sign_out_everywhere()
        stale.name = "Renamed"
        stale.save()
        refusal(refresh(token), 401, "signed_out")

    def test_ends_for_good_with_a_deactivation_in_a_shell(self, sign_in, refresh, refusal, customer):
        token = sign_in("customer").json()["refresh"]
        customer.deactivate()
        customer.is_active = True
        customer.save()
        refusal(refresh(token), 401, "signed_out")
        assert refresh(sign_in("customer").json()["refresh"]).status_code == 200

    def test_ends_with_the_password(self, sign_in, refresh, refusal, customer):
        pair = sign_in("customer").json()
        customer.set_password("another-password-9")
        customer.save()
        refusal(refresh(pair["refresh"]), 401, "password_changed")


class TestLogout:
    def test_ends_the_refresh_token(self, sign_in, refresh, refusal, api, customer):
        token = sign_in("customer").json()["refresh"]
        response = api().post("/api/auth/logout", {"refresh": token})
        assert (response.status_code, response.content) == (204, b"")
        refusal(refresh(token), 401, "token_not_valid")
        refusal(api().post("/api/auth/logout", {"refresh": token}), 401, "token_not_valid")

    def test_needs_a_token(self, api, refusal):
        refusal(api().post("/api/auth/logout", {}), 400, "validation_error", "refresh")


class TestAccessToken:
    def test_expires(self, api, refusal, customer):
        token = AccessToken.for_user(customer)
        token.set_exp(lifetime=-timedelta(seconds=1))
        response = bearer(api, str(token)).get("/api/users/me")
        refusal(response, 401, "token_not_valid")
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_of_nobody(self, api, refusal):
        refusal(bearer(api, str(AccessToken.for_user(User(username="x")))).get("/api/users/me"), 401, "user_not_found")

    def test_a_refresh_token_is_none(self, api, refusal, customer):
        refusal(bearer(api, str(RefreshToken.for_user(customer))).get("/api/users/me"), 401, "token_not_valid")


class TestSession:
    @pytest.fixture
    def browser(self, api):
        """A client that minds CSRF and has asked once who is signed in."""
        client = api(enforce_csrf_checks=True)
        assert client.get("/api/auth/session").json() == {"user": None}
        return client

    def test_of_a_browser(self, browser, customer, password, refusal):
        body = {"username": "customer", "password": password}
        refusal(browser.post("/api/auth/session", body), 403, "csrf_failed")
        assert browser.get("/api/auth/session").json() == {"user": None}

        csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
        response = browser.post("/api/auth/session", body, headers=csrf)
        assert response.json()["user"]["username"] == "customer"
        assert response.cookies["sessionid"]["httponly"]
        assert browser.get("/api/auth/session").json()["user"]["id"] == str(customer.pk)
        assert browser.get("/api/users/me").status_code == 200
        assert "no-store" in response["Cache-Control"]

        fresh = {"X-CSRFToken": browser.cookies["csrftoken"].value}
        assert fresh != csrf
        assert browser.post("/api/tickets", {"title": "Hi"}, headers=fresh).status_code == 201
        refusal(browser.delete("/api/auth/session"), 403, "csrf_failed")
        assert browser.get("/api/users/me").status_code == 200
        assert browser.delete("/api/auth/session", headers=fresh).status_code == 204
        refusal(browser.get("/api/users/me"), 401, "not_authenticated")
        assert browser.get("/api/auth/session").json() == {"user": None}

    def test_wrong_password(self, browser, customer, refusal):
        csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}
        body = {"username": "customer", "password": "wrong"}
        refusal(browser.post("/api/auth/session", body, headers=csrf), 401, "invalid_credentials")
        assert "sessionid" not in browser.cookies

    def test_who_acts_is_known(self, api, customer):
        client = api()
        client.force_login(customer)
        ticket = client.post("/api/tickets", {"title": "Hi"}).json()
        assert ticket["requester"] == {"id": str(customer.pk), "name": "Customer", "role": "customer"}

    def test_ends_with_the_person(self, api, customer):
        client = api()
        client.force_login(customer)
        customer.deactivate()
        assert client.get("/api/auth/session").json() == {"user": None}
        assert client.get("/api/users/me").status_code == 401

    def test_signing_in_is_throttled_asking_is_not(self, api, customer, password, monkeypatch, refusal):
        monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": None, "user": None, "sign-in": "1/min"})
        client = api()
        body = {"username": "customer", "password": password}
        assert api().post("/api/auth/session", body).status_code == 200
        refusal(client.post("/api/auth/session", body), 429, "throttled")
        assert {client.get("/api/auth/session").status_code for _ in range(3)} == {200}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs two writers at once")
def test_of_two_who_refresh_at_once_one_comes_too_late(sign_in, refresh, customer):
    token = sign_in("customer").json()["refresh"]
    together, answers = threading.Barrier(2), []

    def use() -> None:
        together.wait()
        try:
            answers.append(refresh(token).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 401]
