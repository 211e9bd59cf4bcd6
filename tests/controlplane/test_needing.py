"""Who asks for a flag: manifests, routes and other flags, but nobody who leaves."""

from dataclasses import replace

import pytest

from controlplane import errors, needing
from controlplane.store.records import DesiredRow, Record
from schemas.documents import canonical_json
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import EffectivePolicy
from tests.doubles import records


class World:
    """What a reading would say."""

    def __init__(self, *objects: Record, rows: tuple[DesiredRow, ...] = ()) -> None:
        self._objects = objects
        self._rows = rows

    def list(self, kind: str) -> list[Record]:
        """Every object of a kind."""
        return [each for each in self._objects if each.kind == kind]

    def desired(self) -> tuple[DesiredRow, ...]:
        """Every desired row."""
        return self._rows


def row(name: str, flag: str) -> DesiredRow:
    route = DesiredRoute(methods=["GET"], path="/", policy=EffectivePolicy(feature_flags=[flag]))
    module = DesiredModule(entry_point="a:A", digest="d", source_path="a", namespace=name, routes=[route])
    payload = canonical_json(module.wire())
    return DesiredRow(f"module.{name}", "Module", name, "u", 1, 1, 1, "", payload, deleted=False)


FLOORED = records.module("a", auth={"featureFlags": ["new_search"]})
PLAIN = records.module("b")
OTHER = records.of("FeatureFlag", "z", prerequisites=["new-search"])


@pytest.mark.parametrize(
    ("world", "needing_it"),
    [
        (World(PLAIN), []),
        (World(FLOORED, PLAIN), ["Module a"]),
        (World(PLAIN, rows=(row("b", "new-search"),)), ["Module b"]),
        (World(PLAIN, rows=(row("b", "new-search-2"),)), []),
        (World(PLAIN, rows=(replace(row("b", "new-search"), deleted=True),)), []),
        (World(rows=(row("gone", "new-search"),)), []),
        (World(OTHER), ["FeatureFlag z"]),
        (World(replace(FLOORED, deleted_at=records.BORN), replace(OTHER, deleted_at=records.BORN)), []),
    ],
)
def test_who_asks_for_a_flag(world: World, needing_it: list[str]) -> None:
    assert list(needing.needing_flag(world, "new-search")) == needing_it


def test_many_are_counted() -> None:
    world = World(*(records.module(f"m{n}", auth={"featureFlags": ["f"]}) for n in range(9)))
    with pytest.raises(errors.StillNeeded, match=r"Module m0, .* Module m4 and 4 more, whose"):
        needing.check_flag(world, "f")
