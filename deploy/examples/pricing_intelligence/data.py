"""The markets that this module ships: a year of weekly prices and sales, read once per process."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, field_validator

PACKAGE = __package__


def _plain_number(value: object) -> object:
    """Text and truth are no numbers, though they could be read as such."""
    if isinstance(value, str | bool):
        raise ValueError("write a number")
    return value


Count = Annotated[int, BeforeValidator(_plain_number)]
"""A whole number, also one that is written as 52.0."""


class Observation(BaseModel):
    """One week of one market."""

    week: date
    """Its Monday."""
    price: float = Field(ge=0.01, le=1_000_000, strict=True)
    """Mean price of the week, in the market's currency."""
    units: Count = Field(ge=1, le=1_000_000_000)
    """Sold in the week."""

    @field_validator("week", mode="before")
    @classmethod
    def _written(cls, week: object) -> object:
        """A number is no date, though it could be read as seconds."""
        if isinstance(week, date | str) and not str(week).replace(".", "").isdigit():
            return week
        raise ValueError("write the date as 2026-01-05")


@dataclass(frozen=True, slots=True)
class Market:
    """One product on one market."""

    id: str
    name: str
    currency: str
    """ISO 4217."""
    observations: tuple[Observation, ...]
    """Oldest first."""


@cache
def load() -> dict[str, Market]:
    """Read the files beside the code; markets by id."""
    weeks: dict[str, list[Observation]] = defaultdict(list)
    for row in csv.DictReader(_text("sales.csv").splitlines()):
        observation = Observation(
            week=date.fromisoformat(row["week"]), price=float(row["price"]), units=int(row["units"])
        )
        weeks[row["market"]].append(observation)
    return {
        name: Market(name, words["name"], words["currency"], tuple(weeks[name]))
        for name, words in json.loads(_text("markets.json")).items()
    }


def _text(name: str) -> str:
    return files(PACKAGE).joinpath("data", name).read_text(encoding="utf-8")
