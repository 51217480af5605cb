"""What of the admin is put together from several apps, and what is left out of it."""

import django.contrib.auth.admin  # noqa: F401
import rest_framework_simplejwt.token_blacklist.admin  # noqa: F401  (imported, so that there is something to take out)
from django.contrib import admin
from django.contrib.auth.models import Group
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken

import tickets.admin  # noqa: F401
from helpdesk.backoffice.ticket_page import TicketPage
from tickets.models import Ticket

admin.site.unregister(Ticket)
admin.site.register(Ticket, TicketPage)

# Rights follow from the role; and a page that shows refresh tokens gives their owners' sessions away.
for model in (Group, OutstandingToken, BlacklistedToken):
    admin.site.unregister(model)
