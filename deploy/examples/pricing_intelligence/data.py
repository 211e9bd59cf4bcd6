"""The markets that this module ships: a year of weekly prices and sales, read once per process."""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, Field

PACKAGE = __package__


class Observation(BaseModel):
    """One week of one market."""

    week: date
    """Its Monday."""
    price: float = Field(gt=0)
    """Mean price of the week, in the market's currency."""
    units: int = Field(gt=0)
    """Sold in the week."""


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
