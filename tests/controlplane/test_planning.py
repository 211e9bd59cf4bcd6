"""Planning is pure: laws that hold for every write."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controlplane import errors, intaking, planning
from controlplane.store.records import Record
from schemas import conditions, names
from schemas.meta import Json
from tests.doubles.apiparts import module

NOW = datetime(2030, 1, 1, tzinfo=UTC)

SPECS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from(["1.0.0", "2.0.0"]),
        "type": st.sampled_from(["core", "analytics"]),
        "suspend": st.booleans(),
        "config": st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2),
    },
)
MANAGERS = st.sampled_from(["alice", "bob", names.MANAGER_DISCOVERY])
WRITES = st.lists(st.tuples(MANAGERS, SPECS, st.booleans(), st.sampled_from(["apply", "replace"])), max_size=8)


def no_source(_: str) -> str | None:
    return None


def applied(current: Record | None, manager: str, spec: Json, force: bool, action: str) -> planning.Step | None:
    kind = intaking.Action(action) if current is not None else intaking.Action.APPLY
    write = intaking.intake(kind, module(**spec), manager=manager, force=force)
    try:
        return planning.plan(current, write, no_source, NOW)
    except errors.OwnershipConflict:
        return None


@given(WRITES)
def test_the_generation_moves_exactly_with_the_spec(writes: list[tuple[str, Json, bool, str]]) -> None:
    current: Record | None = None
    for number, (manager, spec, force, action) in enumerate(writes, 1):
        step = applied(current, manager, spec, force, action)
        if step is None:
            continue
        if current is not None:
            assert (step.after.generation != current.generation) is (step.after.spec != current.spec)
            assert (step.verb is planning.Verb.UNCHANGED) is (step.after is current)
            assert step.after.uid == current.uid
        current = step.after if step.after is current else _at(step.after, number)


@given(WRITES)
def test_a_write_repeated_changes_nothing(writes: list[tuple[str, Json, bool, str]]) -> None:
    current: Record | None = None
    for number, write in enumerate(writes, 1):
        step = applied(current, *write)
        if step is None:
            continue
        current = step.after if step.after is current else _at(step.after, number)
        again = applied(current, *write)
        assert again is not None
        assert again.verb is planning.Verb.UNCHANGED


@given(WRITES)
def test_discovery_is_never_refused_for_ownership(writes: list[tuple[str, Json, bool, str]]) -> None:
    current: Record | None = None
    for number, write in enumerate(writes, 1):
        step = applied(current, *write)
        current = current if step is None else _at(step.after, number)
        assert applied(current, names.MANAGER_DISCOVERY, write[1], False, "apply") is not None


def _at(record: Record, revision: int) -> Record:
    values: dict[str, Any] = {field: getattr(record, field) for field in record.__slots__}
    return Record(**{**values, "revision": revision})


def test_code_that_cannot_be_packed_is_told_with_the_generation_that_lacks_it() -> None:
    def linked(path: str) -> str | None:
        raise errors.SourceInvalid(f"{path}: a symbolic link")

    write = intaking.intake(intaking.Action.APPLY, module(), manager="alice")
    first = planning.plan(None, write, linked, NOW)
    (told,) = [each for each in first.after.status["conditions"] if each["type"] == conditions.SOURCE_CURRENT]
    assert (told["status"], told["reason"], told["observedGeneration"]) == ("False", conditions.SOURCE_INVALID, 1)
    assert "a symbolic link" in told["message"]
    stored = _at(first.after, 1)
    again = planning.plan(stored, write, linked, NOW)
    assert again.verb is planning.Verb.UNCHANGED
    mended = planning.plan(stored, write, lambda path: "sha256:" + "a" * 64, NOW)
    assert mended.after.generation == 2
    assert [each["type"] for each in mended.after.status["conditions"]] == [conditions.VALID]
