"""Full-text search over tickets: PostgreSQL's own text search, or FTS5 on SQLite.

Both indexes are kept by the database (a generated column; triggers), so nothing written by any way is missed.
"""

from typing import Any

from django.db import connections
from django.db.models import BooleanField, F, Func, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_migrate

_SQLITE_TABLE = "tickets_ticket_search"
_SQLITE = f"""
CREATE VIRTUAL TABLE IF NOT EXISTS {_SQLITE_TABLE}
    USING fts5(title, description, ticket_id UNINDEXED, tokenize = 'unicode61 remove_diacritics 2');
CREATE TRIGGER IF NOT EXISTS tickets_ticket_search_insert AFTER INSERT ON tickets_ticket BEGIN
    INSERT INTO {_SQLITE_TABLE} (rowid, title, description, ticket_id)
    VALUES (new.number, new.title, new.description, new.id);
END;
CREATE TRIGGER IF NOT EXISTS tickets_ticket_search_update AFTER UPDATE OF title, description ON tickets_ticket BEGIN
    UPDATE {_SQLITE_TABLE} SET title = new.title, description = new.description WHERE rowid = new.number;
END;
CREATE TRIGGER IF NOT EXISTS tickets_ticket_search_delete AFTER DELETE ON tickets_ticket BEGIN
    DELETE FROM {_SQLITE_TABLE} WHERE rowid = old.number;
END;
"""
_POSTGRESQL = """
ALTER TABLE tickets_ticket ADD COLUMN IF NOT EXISTS search_vector tsvector
    GENERATED ALWAYS AS (to_tsvector('simple', title || ' ' || description)) STORED;
CREATE INDEX IF NOT EXISTS ticket_search ON tickets_ticket USING gin (search_vector);
"""
MAX_WORDS = 12


def matching(tickets: QuerySet, text: str) -> QuerySet:
    """The tickets that hold every word of `text` (the last one as a beginning), or have it as their number."""
    number = text.strip().removeprefix("#")
    if number.isascii() and number.isdigit() and len(number) < 18:
        return tickets.filter(number=int(number))
    words = ["".join(c if c.isalnum() else " " for c in word).split() for word in text.split()]
    terms = [term for parts in words for term in parts][:MAX_WORDS]
    if not terms:
        return tickets.none()
    if connections[tickets.db].vendor == "postgresql":
        query = " & ".join(terms) + ":*"
        return tickets.filter(_Holds(F("pk"), Value(query)))
    query = " ".join(f'"{term}"' for term in terms) + "*"
    found = RawSQL(f"SELECT rowid FROM {_SQLITE_TABLE} WHERE {_SQLITE_TABLE} MATCH %s", [query])
    return tickets.filter(number__in=found)


class _Holds(Func):
    """Whether the row of the first argument, its id, holds what the second one asks for.

    The vector is a generated column that only the database knows: there is no field to name, so it is named beside
    the id, whatever the table is called in the query.
    """

    output_field = BooleanField()

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> tuple[str, Any]:
        id_, query = self.get_source_expressions()
        sql, params = compiler.compile(query)
        table = compiler.quote_name_unless_alias(id_.alias)
        return f"{table}.search_vector @@ to_tsquery('simple', {sql})", params


def _install(sender: Any, using: str, **kwargs: Any) -> None:
    # After every migrate, not in a migration: when a later migration alters the table, Django rebuilds it on
    # SQLite and the triggers go with the old one.
    connection = connections[using]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            if "tickets_ticket" in connection.introspection.table_names(cursor):
                # executescript() would commit a transaction that is open, so statement by statement.
                for statement in _SQLITE.split(";\nCREATE"):
                    sql = statement if statement.lstrip().startswith("CREATE") else f"CREATE{statement}"
                    cursor.execute(sql.rstrip().rstrip(";"))
    elif connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_POSTGRESQL)


def connect() -> None:
    from django.apps import apps

    post_migrate.connect(_install, sender=apps.get_app_config("tickets"), dispatch_uid="tickets.search.install")
