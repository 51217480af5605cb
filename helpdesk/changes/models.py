"""Abstract models that tell of their changes."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone

from helpdesk.changes.actor import current_actor
from helpdesk.changes.identifiers import uuid7
from helpdesk.changes.signals import ModelSignal
from helpdesk.changes.unit import unit


class EmittingQuerySet(models.QuerySet):
    """A query set that refuses writes which would go round the signals."""

    def update(self, **kwargs: Any) -> int:
        raise TypeError(
            f"{self.model.__name__}.objects.update() would tell nobody: save the objects, "
            "or call update_without_signals() if nobody must know"
        )

    def update_without_signals(self, **kwargs: Any) -> int:
        """A bulk UPDATE that nobody is told of: no event, no notification, no webhook, no socket message."""
        return super().update(**kwargs)

    def bulk_create(self, objs: Iterable, *args: Any, **kwargs: Any) -> list:
        raise TypeError(f"{self.model.__name__}.objects.bulk_create() would tell nobody: save the objects")

    def bulk_create_without_signals(self, objs: Iterable, *args: Any, **kwargs: Any) -> list:
        """A bulk INSERT that nobody is told of; for benchmarks and fixtures."""
        return super().bulk_create(objs, *args, **kwargs)

    def bulk_update(self, objs: Iterable, *args: Any, **kwargs: Any) -> int:
        raise TypeError(f"{self.model.__name__}.objects.bulk_update() would tell nobody: save the objects")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete one by one, so that each deletion is told (the admin's "delete selected" comes this way)."""
        count = 0
        with unit():
            for instance in self:
                instance.delete()  # type: ignore[attr-defined]  # the stubs take it for a row of values()
                count += 1
        return count, {self.model._meta.label: count}


class EmittingModel(models.Model):
    """A model whose saves and deletions send the signals of its app.

    `watched` names the fields (attribute names: `assignee_id`) whose change is news; saving anything else, or the
    same values again, is not. `updated_at` moves only with news, so whoever follows the events has the same
    state as whoever asks the API. A concrete model brings a manager made from an EmittingQuerySet.
    """

    watched: ClassVar[tuple[str, ...]] = ()
    emits: ClassVar[dict[str, ModelSignal]] = {}

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[str, Any] = {}

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **kwargs: Any) -> Self:
        instance = super().from_db(db, field_names, values, **kwargs)
        instance._remember()
        return instance

    def save(self, *args: Any, **kwargs: Any) -> None:
        with unit():
            adding = self._state.adding
            update_fields = kwargs.get("update_fields")
            changes = {} if adding else self._changes(update_fields)
            if changes:
                self.updated_at = timezone.now()
                if update_fields is not None:
                    kwargs["update_fields"] = {*update_fields, "updated_at"}
            super().save(*args, **kwargs)
            if adding:
                self.emit("created")
            elif changes:
                self.emit("updated", changes)
            known = self._known
            self._remember()
            if update_fields is not None:
                # Of the rest nothing was written: it is still what it was.
                self._known = known | {name: new for name, (_old, new) in changes.items()}

    def refresh_from_db(self, using: str | None = None, fields: Iterable[str] | None = None, **kwargs: Any) -> None:  # type: ignore[override]  # Django 5.2 takes three arguments, the stubs are a version ahead
        # Also how Django loads a deferred field: what has been set meanwhile must still count as changed.
        super().refresh_from_db(using=using, fields=fields, **kwargs)
        known = self._known
        self._remember()
        if fields is not None:
            self._known = known | {name: self._known[name] for name in fields if name in self._known}

    def signal_for(self, action: str, changes: dict[str, list]) -> ModelSignal | None:
        """The signal that tells of this change; an app may tell some updates apart."""
        return self.emits.get(action)

    def emit(self, action: str, changes: dict[str, list] | None = None) -> None:
        """Send this change's signal. Must run inside the change's unit."""
        signal = self.signal_for(action, changes or {})
        if signal is not None:
            signal.announce(self, action, changes or {}, current_actor())

    def _remember(self) -> None:
        self._known = {name: self.__dict__[name] for name in self.watched if name in self.__dict__}

    def _changes(self, update_fields: Iterable[str] | None) -> dict[str, list]:
        present = [name for name in self.watched if name in self.__dict__]
        if update_fields is not None:
            # Either name of a foreign key may be given: `assignee` or `assignee_id`.
            saved = {getattr(self._meta.get_field(name), "attname", name) for name in update_fields}
            present = [name for name in present if name in saved]
        unknown = [name for name in present if name not in self._known]
        if unknown:
            # Set on an object that was loaded without them (or made by hand with a known id): ask what they were.
            row = type(self)._base_manager.filter(pk=self.pk).values(*unknown).first() or {}
            self._known.update(row)
        return {
            name: [self._known.get(name), self.__dict__[name]]
            for name in present
            if self._known.get(name) != self.__dict__[name]
        }


class SoftDeleteModel(EmittingModel):
    """Deleted objects keep their row (and their number) until a pruning command removes them for good."""

    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        if self.deleted_at is not None:
            return 0, {}
        with unit():
            now = timezone.now()
            # Conditional, so that of two who delete at once only one tells of it. `updated_at` stays: what is told
            # is the thing as it last was.
            deleted = type(self)._base_manager.filter(pk=self.pk, deleted_at=None).update(deleted_at=now)
            self.deleted_at = now
            if deleted:
                self.emit("deleted")
        return deleted, {self._meta.label: deleted}

    def delete_for_good(self) -> tuple[int, dict[str, int]]:
        """Remove the row. Tells nobody: the deletion was told when it happened."""
        return super().delete()
