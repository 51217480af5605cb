from typing import Any, ClassVar

from django.dispatch import Signal


class ModelSignal(Signal):
    """A change of one object, sent by the model layer inside the change's transaction.

    Receivers get `instance`, `action` ("created", "updated" or "deleted"), `changes` ({field: [old, new]}, empty
    unless updated) and `actor` (a user, or None for the system). A receiver that raises undoes the change: what
    cannot be recorded has not happened.
    """

    declared: ClassVar[list["ModelSignal"]] = []

    def __init__(self, name: str, description: str) -> None:
        """`description` says when the signal is sent, and when not."""
        super().__init__()
        self.name = name
        self.description = description
        ModelSignal.declared.append(self)

    def __repr__(self) -> str:
        return f"<ModelSignal {self.name}>"

    def announce(self, instance: Any, action: str, changes: dict[str, list], actor: Any | None) -> None:
        self.send(sender=type(instance), instance=instance, action=action, changes=changes, actor=actor)
