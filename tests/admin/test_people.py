"""People as administrators manage them."""

import pytest
from rest_framework_simplejwt.tokens import RefreshToken

from helpdesk.accounts.models import Role, User
from notifications.models import Event
from tests.admin.pages import form_of, last_event, page


@pytest.fixture
def client(browser, admin):
    return browser(admin)


def new_person(**fields) -> dict[str, str]:
    return {
        "username": "nina",
        "name": "Nina Simon",
        "email": "nina@example.com",
        "role": "agent",
        "usable_password": "true",
        "password1": "a-long-enough-phrase",
        "password2": "a-long-enough-phrase",
        **fields,
    }


def test_add_a_person(client, admin):
    assert client.post(page("accounts_user_add"), new_person()).status_code == 302
    person = User.objects.get(username="nina")
    assert (person.role, person.name, person.email, person.is_staff) == (
        "agent",
        "Nina Simon",
        "nina@example.com",
        True,
    )
    assert person.check_password("a-long-enough-phrase")
    event = last_event("user")
    assert (event.action, event.actor, event.entity_id) == ("created", admin, person.pk)


def test_add_a_person_who_cannot_sign_in_yet(client):
    data = new_person(usable_password="false", password1="", password2="")
    assert client.post(page("accounts_user_add"), data).status_code == 302
    assert not User.objects.get(username="nina").has_usable_password()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"username": "ADMIN"}, "A person with that username exists already."),
        ({"email": "ADMIN@example.com"}, "A person with that e-mail address exists already."),
        ({"username": "someone@example.com"}, "must be the person's own e-mail address"),
        ({"email": "nonsense"}, "Enter a valid email address."),
        ({"role": "king"}, "is not one of the available choices"),
        ({"password1": "short", "password2": "short"}, "at least 10 characters"),
        ({"password2": "another-long-phrase"}, "didn’t match"),
        ({"username": ""}, "This field is required."),
    ],
)
def test_a_wrong_field_is_explained(client, admin, fields, message):
    response = client.post(page("accounts_user_add"), new_person(**fields))
    assert response.status_code == 200
    assert message in response.content.decode().replace("&#x27;", "'")
    assert User.objects.count() == 1


def test_whoever_takes_the_name_first_has_it(client, admin, monkeypatch):
    monkeypatch.setattr(
        "helpdesk.accounts.admin.NewPersonForm.clean_username", lambda form: form.cleaned_data["username"]
    )
    monkeypatch.setattr(User, "validate_constraints", lambda person, exclude=None: None)
    response = client.post(page("accounts_user_add"), new_person(username="Admin"), follow=True)
    assert "Someone else has just taken that username" in response.content.decode()
    assert User.objects.count() == 1


def test_change_a_person(client, admin, agent):
    address = page("accounts_user_change", agent)
    form = form_of(client.get(address), "user_form")
    assert client.post(address, {**form, "role": "admin", "name": "Ada"}).status_code == 302
    agent.refresh_from_db()
    assert (agent.role, agent.name, agent.is_superuser) == ("admin", "Ada", True)
    event = last_event("user")
    assert (event.actor, event.changes) == (admin, {"role": ["agent", "admin"], "name": ["Agent", "Ada"]})


def test_saving_a_person_unchanged_is_no_news(client, admin, agent):
    count = Event.objects.count()
    address = page("accounts_user_change", agent)
    assert client.post(address, form_of(client.get(address), "user_form")).status_code == 302
    assert Event.objects.count() == count


def test_nobody_is_deleted(client, agent):
    assert client.post(page("accounts_user_delete", agent), {"post": "yes"}).status_code == 403
    client.post(
        page("accounts_user_changelist"), {"action": "delete_selected", "_selected_action": [agent.pk], "post": "yes"}
    )
    assert User.objects.filter(pk=agent.pk).exists()


def test_deactivate_people(client, admin, agent, customer):
    data = {"action": "deactivate", "_selected_action": [agent.pk, customer.pk]}
    response = client.post(page("accounts_user_changelist"), data, follow=True)
    assert "Deactivated: Agent, Customer." in response.content.decode()
    assert not User.objects.filter(pk__in=[agent.pk, customer.pk], is_active=True).exists()
    events = Event.objects.filter(entity="user", action="updated")
    assert {(event.entity_id, event.actor) for event in events} == {(agent.pk, admin), (customer.pk, admin)}
    assert set(User.objects.filter(is_active=False).values_list("sign_in_epoch", flat=True)) == {1}


def test_deactivate_and_activate_on_the_page(client, agent):
    address = page("accounts_user_change", agent)
    form = form_of(client.get(address), "user_form")
    del form["is_active"]
    client.post(address, form)
    agent.refresh_from_db()
    assert agent.deactivated_at is not None
    assert last_event("user").changes == {"is_active": [True, False]}
    form = form_of(client.get(address), "user_form")
    client.post(address, {**form, "is_active": "on"})
    agent.refresh_from_db()
    assert (agent.is_active, agent.deactivated_at) == (True, None)


def test_nobody_deactivates_themselves(client, admin, make_user):
    make_user("second", Role.ADMIN)
    data = {"action": "deactivate", "_selected_action": [admin.pk]}
    response = client.post(page("accounts_user_changelist"), data, follow=True)
    assert "You cannot deactivate yourself." in response.content.decode()
    address = page("accounts_user_change", admin)
    form = form_of(client.get(address), "user_form")
    del form["is_active"]
    response = client.post(address, form)
    assert "You cannot deactivate yourself." in response.content.decode()
    admin.refresh_from_db()
    assert admin.is_active


def test_the_last_administrator_stays_one(client, admin, agent):
    address = page("accounts_user_change", admin)
    form = form_of(client.get(address), "user_form")
    response = client.post(address, {**form, "role": "agent"})
    assert "This is the last active administrator" in response.content.decode()
    admin.refresh_from_db()
    assert admin.role == Role.ADMIN


def test_one_of_two_administrators_may_go(client, admin, make_user):
    second = make_user("second", Role.ADMIN)
    address = page("accounts_user_change", second)
    form = form_of(client.get(address), "user_form")
    assert client.post(address, {**form, "role": "agent"}).status_code == 302
    second.refresh_from_db()
    assert second.role == Role.AGENT


def test_deactivating_a_whole_list_is_refused(client, agent, customer):
    data = {"action": "deactivate", "_selected_action": [agent.pk], "select_across": "1"}
    response = client.post(page("accounts_user_changelist"), data, follow=True)
    assert "Nobody was deactivated." in response.content.decode()
    assert User.objects.filter(is_active=True).count() == 3


def test_set_a_password(client, browser, agent, password):
    token, theirs = str(RefreshToken.for_user(agent)), browser(agent)
    address = page("auth_user_password_change", agent)
    assert client.get(address).status_code == 200
    data = {"password1": "another-long-phrase", "password2": "another-long-phrase", "usable_password": "true"}
    assert client.post(address, {**data, "set-password": "x"}).status_code == 302
    agent.refresh_from_db()
    assert agent.check_password("another-long-phrase")
    assert browser().post("/api/auth/token/refresh", {"refresh": token}, "application/json").status_code == 401
    assert theirs.get(page("index")).status_code == 302


def test_agents_cannot_set_passwords_of_others(browser, agent, admin, customer, password):
    data = {"password1": "another-long-phrase", "password2": "another-long-phrase", "usable_password": "true"}
    for person in (admin, customer, agent):
        assert browser(agent).post(page("auth_user_password_change", person), data).status_code == 403
        person.refresh_from_db()
        assert person.check_password(password)


def test_change_ones_own_password(browser, agent, password):
    client = browser(agent)
    data = {"old_password": password, "new_password1": "another-long-phrase", "new_password2": "another-long-phrase"}
    assert client.post(page("password_change"), data).status_code == 302
    agent.refresh_from_db()
    assert agent.check_password("another-long-phrase")
    assert client.get(page("index")).status_code == 200


def choices(client, field: str, term: str = "", model: str = "ticket", app: str = "tickets"):
    return client.get(page("autocomplete"), {"app_label": app, "model_name": model, "field_name": field, "term": term})


def test_agents_find_the_people_of_a_ticket(browser, agent, other_agent, admin, customer, other_customer):
    other_customer.deactivate()
    client = browser(agent)
    found = [result["text"] for result in choices(client, "requester").json()["results"]]
    assert found == [
        "Admin (admin@example.com)",
        "Agent (agent@example.com)",
        "Customer (customer@example.com)",
        "Other_Agent (other_agent@example.com)",
    ]
    found = [result["text"] for result in choices(client, "assignee").json()["results"]]
    assert "Customer (customer@example.com)" not in found
    assert len(found) == 3
    assert [result["id"] for result in choices(client, "requester", "customer@").json()["results"]] == [
        str(customer.pk)
    ]


def test_nobody_else_finds_anyone(browser, agent, customer, endpoint):
    # Agents find endpoints of their own, and this one is an administrator's.
    found = choices(browser(agent), "endpoint", model="webhookdelivery", app="notifications")
    assert found.json()["results"] == []
    assert choices(browser(agent), "actor", model="event", app="notifications").status_code == 403
    assert choices(browser(customer), "requester").status_code == 302
    assert choices(browser(), "requester").status_code == 302
