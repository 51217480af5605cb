"""Every page for every role: who gets in where, and that nothing breaks on the way."""

import pytest
from django.apps import apps
from django.contrib import admin as django_admin
from django.contrib.staticfiles import finders
from django.templatetags.static import static

from notifications.models import Notification, WebhookDelivery
from notifications.webhooks import endpoints
from tests.admin.pages import page
from tickets.models import TicketTag

STAFF = {"admin": True, "agent": True}
ADMINS = {"admin": True, "agent": False}
NOBODY = {"admin": False, "agent": False}

# model: (who sees its list and pages, who may add, who may change, who may delete)
RIGHTS = {
    "tickets_ticket": (STAFF, STAFF, STAFF, STAFF),
    "tickets_attachment": (STAFF, STAFF, STAFF, STAFF),
    "tickets_tickettag": (ADMINS, NOBODY, NOBODY, NOBODY),
    "comments_comment": (STAFF, STAFF, STAFF, STAFF),
    "knowledge_article": (STAFF, STAFF, STAFF, STAFF),
    "accounts_user": (ADMINS, ADMINS, ADMINS, NOBODY),
    "notifications_notification": (STAFF, NOBODY, NOBODY, NOBODY),
    "notifications_event": (ADMINS, NOBODY, NOBODY, NOBODY),
    "notifications_webhookendpoint": (STAFF, STAFF, STAFF, STAFF),  # agents: their own
    "notifications_webhookdelivery": (STAFF, NOBODY, NOBODY, NOBODY),
    "notifications_webhookrecovery": (STAFF, STAFF, NOBODY, NOBODY),  # agents: of their own endpoints
    "notifications_webhookattempt": (ADMINS, NOBODY, NOBODY, NOBODY),
    "notifications_receivedwebhook": (ADMINS, NOBODY, NOBODY, NOBODY),
    "notifications_eventstream": (ADMINS, NOBODY, NOBODY, NOBODY),
    "notifications_worker": (ADMINS, NOBODY, NOBODY, NOBODY),
    "notifications_statistic": (ADMINS, NOBODY, NOBODY, NOBODY),
}
# Nothing of these is made by the fixtures: they are looked at as lists.
UNUSED = {
    "notifications_receivedwebhook",
    "notifications_eventstream",
    "notifications_worker",
    "notifications_statistic",
    "notifications_webhookrecovery",
}
OUR_APPS = ("accounts", "tickets", "comments", "knowledge", "notifications")


def test_every_model_is_registered_and_in_the_matrix():
    ours = {
        model._meta.label_lower.replace(".", "_") for app in OUR_APPS for model in apps.get_app_config(app).get_models()
    }
    registered = {model._meta.label_lower.replace(".", "_") for model in django_admin.site._registry}
    assert registered == ours == set(RIGHTS)


@pytest.fixture
def things(ticket, note, article, make_attachment, attempt, agent, admin):
    """One object of each kind that has pages of its own, by the name of its model; by person where each has theirs."""
    ticket.set_tags(["fire"])
    own = {
        person.pk: Notification.objects.create(
            event=attempt.delivery.notification.event if person == agent else note_event(note),
            recipient=person,
            type="new_ticket",
            message="For you",
            related_type="ticket",
            related_id=ticket.pk,
        )
        for person in (agent, admin)
    }
    theirs = endpoints.create(agent, "https://hooks.example.com/agent")[0]
    sent = WebhookDelivery.objects.create(endpoint=theirs, notification=own[agent.pk], state="exhausted")
    return {
        "tickets_ticket": ticket,
        "tickets_attachment": make_attachment(ticket, agent),
        "comments_comment": note,
        "knowledge_article": article,
        "accounts_user": agent,
        "notifications_notification": own,
        "notifications_event": attempt.delivery.notification.event,
        "notifications_webhookendpoint": {agent.pk: theirs, admin.pk: attempt.delivery.endpoint},
        "notifications_webhookdelivery": {agent.pk: sent, admin.pk: attempt.delivery},
        "notifications_webhookattempt": attempt,
        "tickets_tickettag": TicketTag.objects.get(),
    }


def note_event(note):
    from notifications.models import Event

    return Event.objects.get(entity="comment", entity_id=note.pk)


@pytest.mark.parametrize("role", ["admin", "agent"])
@pytest.mark.parametrize("model", RIGHTS)
def test_pages_of_staff(browser, request, things, model, role):
    person = request.getfixturevalue(role)
    client, (view, add, _change, delete) = browser(person), (rights[role] for rights in RIGHTS[model])
    allowed = {True: (200,), False: (302, 403)}  # 302: "does not exist", for what they may not even know of
    assert client.get(page(f"{model}_changelist")).status_code in allowed[view]
    assert client.get(page(f"{model}_changelist"), {"q": "fire"}).status_code in allowed[view]
    assert client.get(page(f"{model}_add")).status_code in allowed[add]
    if model in things:
        thing = things[model][person.pk] if isinstance(things[model], dict) else things[model]
        assert client.get(page(f"{model}_change", thing)).status_code in allowed[view]
        assert client.get(page(f"{model}_history", thing)).status_code in allowed[view]
        assert client.get(page(f"{model}_delete", thing)).status_code in allowed[delete]


@pytest.mark.parametrize(
    ("model", "role"),
    [
        (model, role)
        for model, rights in RIGHTS.items()
        for role, may in rights[2].items()
        if not may and model not in UNUSED
    ],
)
def test_what_may_not_be_changed_is_not(browser, request, things, model, role):
    person = request.getfixturevalue(role)
    thing = things[model][person.pk] if isinstance(things[model], dict) else things[model]
    client = browser(person)
    before = type(thing)._base_manager.filter(pk=thing.pk).values().get()
    assert client.post(page(f"{model}_change", thing), {"message": "x", "url": "x"}).status_code in (302, 403)
    assert type(thing)._base_manager.filter(pk=thing.pk).values().get() == before


@pytest.mark.parametrize("model", RIGHTS)
def test_customers_and_strangers_never_get_in(browser, customer, things, model):
    for client in (browser(customer), browser()):
        addresses = [page("index"), page(f"{model}_changelist"), page(f"{model}_add")]
        found = things.get(model)
        for thing in found.values() if isinstance(found, dict) else [found] if found else []:
            addresses += [page(f"{model}_{name}", thing) for name in ("change", "history", "delete")]
        for address in addresses:
            response = client.get(address)
            assert response.status_code == 302
            assert response["Location"].startswith("/admin/login/")


def test_a_deactivated_agent_is_out_at_once(browser, agent):
    client = browser(agent)
    assert client.get(page("index")).status_code == 200
    agent.deactivate()
    assert client.get(page("index")).status_code == 302


@pytest.mark.parametrize("model", ["tickets_ticket", "tickets_attachment", "comments_comment", "knowledge_article"])
def test_deleted_things_are_gone_from_every_page(browser, admin, things, model):
    thing = things[model]
    thing.delete()
    client = browser(admin)
    assert str(thing.pk) not in client.get(page(f"{model}_changelist")).content.decode()
    assert client.get(page(f"{model}_change", thing)).status_code == 302
    assert client.get(page(f"{model}_history", thing)).status_code == 302


@pytest.mark.parametrize("id_", ["nonsense", "01900000-0000-7000-8000-000000000000", "%00", "1" * 300])
@pytest.mark.parametrize("action", ["change", "history", "delete"])
def test_a_wrong_id_leads_back_to_the_front_page(browser, admin, id_, action):
    for model in ("tickets/ticket", "accounts/user", "notifications/webhookdelivery", "notifications/event"):
        response = browser(admin).get(f"/admin/{model}/{id_}/{action}/")
        assert response.status_code in (302, 403)


def test_others_notifications_are_nobodys_business(browser, admin, agent, things):
    theirs = things["notifications_notification"][agent.pk]
    client = browser(admin)
    assert str(theirs.pk) not in client.get(page("notifications_notification_changelist")).content.decode()
    assert client.get(page("notifications_notification_change", theirs)).status_code == 302


def test_groups_and_tokens_are_not_in_the_admin(browser, admin):
    client = browser(admin)
    for address in ("auth/group", "token_blacklist/outstandingtoken", "token_blacklist/blacklistedtoken"):
        assert client.get(f"/admin/{address}/").status_code == 404


def test_no_page_asks_another_site_for_anything(browser, admin, things):
    client = browser(admin)
    for address in (page("index"), page("tickets_ticket_change", things["tickets_ticket"])):
        html = client.get(address).content.decode()
        assert 'src="http' not in html
        assert 'href="http' not in html.replace('href="https://hooks.example.com', "")


def test_sign_in_with_the_throttle_of_the_api(browser, agent, password, monkeypatch):
    from rest_framework.throttling import SimpleRateThrottle

    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"sign-in": "2/min"})
    client = browser()
    for _ in range(2):
        response = client.post("/admin/login/", {"username": "agent", "password": "wrong"})
        assert "Please enter the correct username and password" in response.content.decode()
    response = client.post("/admin/login/", {"username": "agent", "password": password})
    assert "Too many attempts" in response.content.decode()
    assert client.get(page("index")).status_code == 302


def test_the_icon_is_where_browsers_look(client):
    assert client.get("/favicon.ico")["Location"] == static("backoffice/favicon.svg")
    assert finders.find("backoffice/favicon.svg")


@pytest.mark.parametrize("path", ["/", "/admin"])
def test_whoever_opens_the_site_finds_the_back_office(client, path):
    response = client.get(path)
    assert (response.status_code, response["Location"]) == (302, "/admin/")
