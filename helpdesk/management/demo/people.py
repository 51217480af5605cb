"""Who is in the demo data. Everyone has the same well-known password, so that it never belongs in production."""

from dataclasses import dataclass

from helpdesk.accounts.models import Role

PASSWORD = "demo-password"  # noqa: S105  (known to everybody, on purpose)
ACCOUNTS = ("admin", "agent", "customer")


@dataclass(frozen=True)
class Person:
    username: str
    name: str
    role: Role = Role.CUSTOMER

    @property
    def email(self) -> str:
        return f"{self.username}@example.com"


PEOPLE = (
    Person("admin", "Ada Moreno", Role.ADMIN),
    Person("agent", "Jonas Weber", Role.AGENT),
    Person("priya", "Priya Raman", Role.AGENT),
    Person("tomasz", "Tomasz Zieliński", Role.AGENT),
    Person("customer", "Mara Lindqvist"),
    Person("chidi", "Chidi Okonkwo"),
    Person("elif", "Elif Aydın"),
    Person("kenji", "Kenji Mori"),
    Person("noah", "Noah Bennett"),
    Person("sofia", "Sofia Ricci"),
)
