"""Django settings, read from the environment (`docs/operations.md` lists every variable).

The defaults are the embedded ones: SQLite, an in-process channel layer, a broker in a folder. `HELPDESK_ENV=production`
turns the conveniences of development off and refuses to start without real keys.
"""

import os
from datetime import timedelta
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from helpdesk.settings import backends, environment, secrets

BASE_DIR = Path(__file__).resolve().parents[2]
DATA_DIR = environment.folder("DATA_DIR", BASE_DIR / "var")

PRODUCTION = environment.choice("HELPDESK_ENV", "development", ("development", "production")) == "production"
DEBUG = environment.boolean("DEBUG", False)
PORT = environment.integer("PORT", 5000, minimum=1)

# Where browsers find us: own-origin webhook URLs and links in messages are built from it.
PUBLIC_URL = environment.text("PUBLIC_URL", f"http://localhost:{PORT}").rstrip("/")

# --- Keys ---------------------------------------------------------------------------------------------------------
if PRODUCTION:
    SECRET_KEY = environment.required("SECRET_KEY", "sessions and tokens are signed with it (50 random characters)")
    FIELD_ENCRYPTION_KEYS = environment.words("FIELD_ENCRYPTION_KEYS")
    if not FIELD_ENCRYPTION_KEYS:
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEYS is not set: webhook secrets are encrypted with it "
            "(Fernet keys, comma-separated, newest first)"
        )
    ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS")
    if not ALLOWED_HOSTS:
        raise ImproperlyConfigured("ALLOWED_HOSTS is not set: the host names this site answers to, comma-separated")
else:
    SECRET_KEY = environment.text("SECRET_KEY") or secrets.kept_secret(DATA_DIR / "secret_key")
    FIELD_ENCRYPTION_KEYS = environment.words("FIELD_ENCRYPTION_KEYS", (secrets.fernet_key_from(SECRET_KEY),))
    ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]"))
for _key in FIELD_ENCRYPTION_KEYS:
    try:
        Fernet(_key)
    except ValueError:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEYS holds a value that is no Fernet key") from None

# --- Backends -----------------------------------------------------------------------------------------------------
REDIS_URL = backends.checked_redis_url(environment.text("REDIS_URL"))
DATABASES = {
    "default": backends.database(
        environment.text("DATABASE_URL", f"sqlite:///{DATA_DIR / 'helpdesk.sqlite3'}"),
        environment.integer("DATABASE_POOL_SIZE", 0),
    )
}
# Tests on SQLite use a file too: a database in memory knows neither WAL nor waiting for a lock. One for each run, so
# that two runs at once do not meet.
DATABASES["default"].setdefault("TEST", {})
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"]["NAME"] = str(DATA_DIR / f"test-{os.getpid()}.sqlite3")
CHANNEL_LAYERS = {"default": backends.channel_layer(REDIS_URL)}
CACHES = {"default": backends.cache(REDIS_URL)}

# --- Application --------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "daphne",
    "helpdesk.backoffice",  # before the admin, whose templates it overrides
    "helpdesk.backoffice.apps.BackofficeAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "corsheaders",
    "helpdesk",
    "helpdesk.accounts",
    "tickets",
    "comments",
    "knowledge",
    "notifications",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "helpdesk.api.parsers.BodyLimitMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "helpdesk.changes.middleware.ActorMiddleware",
    "helpdesk.changes.trace.TraceMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "helpdesk.urls"
ASGI_APPLICATION = "helpdesk.asgi.application"
WSGI_APPLICATION = "helpdesk.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "helpdesk.backoffice.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = environment.folder("STATIC_ROOT", DATA_DIR / "static")
WHITENOISE_USE_FINDERS = not PRODUCTION
MEDIA_ROOT = DATA_DIR / "attachments"

# --- People -------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["helpdesk.accounts.authentication.RoleBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
REGISTRATION_OPEN = environment.boolean("REGISTRATION_OPEN", True)

# --- API ----------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "helpdesk.accounts.authentication.TokenAuthentication",
        "helpdesk.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["helpdesk.api.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "helpdesk.api.pagination.KeysetPagination",
    "DEFAULT_FILTER_BACKENDS": ["helpdesk.api.filters.StrictFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "helpdesk.api.schema.Schema",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.ScopedRateThrottle",  # views with a throttle_scope
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": environment.rate("THROTTLE_ANONYMOUS", "60/min"),
        "user": environment.rate("THROTTLE_USER", "1200/min"),
        "sign-in": environment.rate("THROTTLE_SIGN_IN", "10/min"),
        "register": environment.rate("THROTTLE_REGISTER", "10/hour"),
        "webhook-test": environment.rate("THROTTLE_WEBHOOK_TEST", "30/min"),
        # The internal receiver is called by senders that share an address; a bad signature costs one lookup.
        "webhook-receiver": environment.rate("THROTTLE_WEBHOOK_RECEIVER", "6000/min"),
    },
    "EXCEPTION_HANDLER": "helpdesk.api.errors.exception_handler",
    # One form of time everywhere: UTC with microseconds and Z (REST, webhooks and sockets share the serializers).
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "NUM_PROXIES": environment.integer("TRUSTED_PROXIES", 0),
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=environment.integer("ACCESS_TOKEN_SECONDS", 900, minimum=1)),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=environment.integer("REFRESH_TOKEN_DAYS", 14, minimum=1)),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "UPDATE_LAST_LOGIN": False,
    "CHECK_REVOKE_TOKEN": True,  # a changed password ends every token
    "USER_ID_CLAIM": "sub",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Helpdesk API",
    "DESCRIPTION": "Tickets, comments, knowledge base, notifications and webhooks.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "TicketStatus": "tickets.models.Status",
        "TicketPriority": "tickets.models.Priority",
        "ArticleStatus": "knowledge.models.ArticleStatus",
        "Role": "helpdesk.accounts.models.Role",
        "EndpointState": "notifications.models.EndpointState",
        "DeliveryState": "notifications.models.DeliveryState",
        "NotificationType": "notifications.catalogue.TYPES",
        "RecoveryState": "notifications.models.RecoveryState",
    },
}
_LOCAL_SPA = tuple(f"http://localhost:{port}" for port in (3000, 4200, 5173, 8080))
ALLOWED_ORIGINS = environment.words("ALLOWED_ORIGINS", () if PRODUCTION else _LOCAL_SPA)
CORS_ALLOWED_ORIGINS = ALLOWED_ORIGINS
CORS_ALLOW_CREDENTIALS = False  # other origins send tokens; the session cookie is for our own pages only
CORS_URLS_REGEX = r"^/api/.*$"
CSRF_TRUSTED_ORIGINS = environment.words("CSRF_TRUSTED_ORIGINS", (PUBLIC_URL,))
CSRF_FAILURE_VIEW = "helpdesk.api.errors.csrf_failure"
MAX_JSON_BYTES = environment.integer("MAX_JSON_BYTES", 1_000_000, minimum=1000)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000

# --- Attachments --------------------------------------------------------------------------------------------------
MAX_ATTACHMENT_BYTES = environment.integer("MAX_ATTACHMENT_BYTES", 20 * 1024 * 1024, minimum=1)
MAX_ATTACHMENTS_PER_TICKET = environment.integer("MAX_ATTACHMENTS_PER_TICKET", 100, minimum=1)

# --- Webhooks -----------------------------------------------------------------------------------------------------
# Networks that webhooks may reach although they are private (CIDR, comma-separated).
WEBHOOK_ALLOWED_NETWORKS = environment.networks(
    "WEBHOOK_ALLOWED_NETWORKS", () if PRODUCTION else ("127.0.0.0/8", "::1/128")
)
# Our own public addresses (CIDR), refused like private ones.
WEBHOOK_OWN_ADDRESSES = environment.networks("WEBHOOK_OWN_ADDRESSES")
# Ports of public addresses that webhooks may use; allowed networks may be reached on any.
WEBHOOK_PORTS = environment.ports("WEBHOOK_PORTS", "80,443,8000-8999")
# Certificates (PEM) trusted instead of the public authorities'.
WEBHOOK_CA_BUNDLE = environment.file("WEBHOOK_CA_BUNDLE")
WEBHOOK_DEADLINE_SECONDS = environment.integer("WEBHOOK_DEADLINE_SECONDS", 15, minimum=1)
WEBHOOK_CONCURRENCY = environment.integer("WEBHOOK_CONCURRENCY", 64, minimum=1)
WEBHOOK_SLOW_CONCURRENCY = environment.integer("WEBHOOK_SLOW_CONCURRENCY", 256, minimum=1)
WEBHOOK_ENDPOINT_CONCURRENCY = environment.integer("WEBHOOK_ENDPOINT_CONCURRENCY", 8, minimum=1)
# Webhooks about one ticket that an endpoint may get in a minute because of one person's access token; 0: any number.
WEBHOOK_LOOP_LIMIT = environment.integer("WEBHOOK_LOOP_LIMIT", 100)
MAX_WEBHOOK_ENDPOINTS = environment.integer("MAX_WEBHOOK_ENDPOINTS", 20, minimum=1)
# How many missed deliveries are sent again to an endpoint in a minute, unless whoever asks says otherwise; and at most.
WEBHOOK_RECOVERY_PER_MINUTE = environment.integer("WEBHOOK_RECOVERY_PER_MINUTE", 600, minimum=1)
WEBHOOK_RECOVERY_MAX_PER_MINUTE = environment.integer("WEBHOOK_RECOVERY_MAX_PER_MINUTE", 6000, minimum=1)
if WEBHOOK_RECOVERY_PER_MINUTE > WEBHOOK_RECOVERY_MAX_PER_MINUTE:
    raise ImproperlyConfigured("WEBHOOK_RECOVERY_PER_MINUTE is more than WEBHOOK_RECOVERY_MAX_PER_MINUTE allows")

# --- Sockets ------------------------------------------------------------------------------------------------------
# What one person and one connection may cost; `notifications/sockets/limits.py` has the reasons.
SOCKET_CONNECTIONS_PER_PERSON = environment.integer("SOCKET_CONNECTIONS_PER_PERSON", 50, minimum=1)
SOCKET_ROOMS = environment.integer("SOCKET_ROOMS", 200, minimum=1)
SOCKET_OPERATIONS_PER_SECOND = environment.integer("SOCKET_OPERATIONS_PER_SECOND", 20, minimum=1)
SOCKET_OUTBOX_FRAMES = environment.integer("SOCKET_OUTBOX_FRAMES", 1000, minimum=10)
SOCKET_OUTBOX_CHARACTERS = environment.integer("SOCKET_OUTBOX_CHARACTERS", 4_194_304, minimum=200_000)
# For how long connections are sent away, one after the other, before a sockets' process ends.
SHUTDOWN_SECONDS = environment.integer("SHUTDOWN_SECONDS", 8)

# --- Notifications ------------------------------------------------------------------------------------------------
# An audience up to this size is written in the transaction of the change; a larger one by the worker, in batches.
AUDIENCE_IN_TRANSACTION = 200

# --- Retention ----------------------------------------------------------------------------------------------------
# Days after which things are removed for good (`manage.py prune`); 0 keeps them for ever.
WEBHOOK_RETENTION_DAYS = environment.integer("WEBHOOK_RETENTION_DAYS", 30)
EVENT_RETENTION_DAYS = environment.integer("EVENT_RETENTION_DAYS", 365)
DELETED_RETENTION_DAYS = environment.integer("DELETED_RETENTION_DAYS", 30)
if EVENT_RETENTION_DAYS and not 0 < WEBHOOK_RETENTION_DAYS <= EVENT_RETENTION_DAYS:
    raise ImproperlyConfigured(
        "WEBHOOK_RETENTION_DAYS must not be longer than EVENT_RETENTION_DAYS: what is delivered is read from the event"
    )

# --- Monitoring -----------------------------------------------------------------------------------------------------
# Whoever may read /metrics: with a token those who send it (Authorization: Bearer …), without one this machine only.
METRICS_TOKEN = environment.text("METRICS_TOKEN")

# --- Celery -------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL, CELERY_BROKER_TRANSPORT_OPTIONS = backends.broker(
    environment.text("CELERY_BROKER_URL"), REDIS_URL, DATA_DIR
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A broker that is gone is waited for, however long.
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A bell that cannot be rung must not hold up a request: the sweep finds the work seconds later.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_TIMEOUT = 1
# Celery closes the database connection around every task, unless this says how often it may be used again.
CELERY_DB_REUSE_MAX = 1000
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "notifications.tasks.sweep", "schedule": 5.0},
    # Every hour, not every night: a clock that is started anew each morning never sees the night.
    "prune": {"task": "notifications.tasks.prune", "schedule": 3600.0},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")

# --- Security -----------------------------------------------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if PRODUCTION:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = environment.boolean("SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = environment.integer("HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.boolean("HSTS_INCLUDE_SUBDOMAINS", True)
    SECURE_HSTS_PRELOAD = environment.boolean("HSTS_PRELOAD", True)
    if environment.boolean("BEHIND_TLS_PROXY", False):
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- Logging ------------------------------------------------------------------------------------------------------
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "filters": {
        "without_refused_traces": {"()": "helpdesk.settings.logs.WithoutRefusedTraces"},
        "broker_trouble": {"()": "helpdesk.settings.logs.BrokerTroubleInOneLine"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["broker_trouble"]}},
    "root": {"handlers": ["console"], "level": environment.choice("LOG_LEVEL", "INFO", LOG_LEVELS)},
    "loggers": {
        "django.request": {"filters": ["without_refused_traces"]},
        "django.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "urllib3": {"level": "ERROR"},
    },
}
