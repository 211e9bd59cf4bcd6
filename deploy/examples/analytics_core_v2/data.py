"""The data set that this module ships: users and their sessions, read once per process."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

PACKAGE = __package__


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account."""

    id: str
    name: str
    country: str
    """ISO 3166-1 alpha-2."""
    plan: str
    joined: date


@dataclass(frozen=True, slots=True)
class Session:
    """One visit of one user."""

    day: date
    user: str
    page: str
    """Where the visit began."""
    minutes: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """Everything there is."""

    users: tuple[User, ...]
    sessions: tuple[Session, ...]
    """Oldest first."""

    @property
    def last_day(self) -> date:
        """The day that counts as today, so that answers do not depend on when they are asked for."""
        return self.sessions[-1].day


@cache
def load() -> DataSet:
    """Read the files beside the code."""
    users = tuple(
        User(row["id"], row["name"], row["country"], row["plan"], date.fromisoformat(row["joined"]))
        for row in _rows("users.csv")
    )
    sessions = tuple(
        Session(date.fromisoformat(row["day"]), row["user"], row["page"], int(row["minutes"]))
        for row in _rows("sessions.csv")
    )
    return DataSet(users, sessions)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = files(PACKAGE).joinpath("data", name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())
