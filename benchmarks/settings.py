"""The product's settings, with two things more: the routes of `urls`, and tokens that outlast a run."""

from helpdesk.settings import *  # noqa: F403
from helpdesk.settings import SIMPLE_JWT

ROOT_URLCONF = "benchmarks.urls"
SIMPLE_JWT = {**SIMPLE_JWT, "ACCESS_TOKEN_LIFETIME": SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"]}
