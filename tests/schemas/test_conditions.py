"""State is a projection of conditions: precedence, generations, and times that stay."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas import conditions
from schemas.meta import Condition, ConditionStatus
from schemas.module import ModuleState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
KINDS = (conditions.VALID, conditions.REGISTERED, conditions.PROGRAMMED, conditions.STALLED, conditions.HEALTHY)


def made(kind: str, status: ConditionStatus | bool = True, generation: int = 2, at: datetime = NOW) -> Condition:
    return conditions.condition(kind, status, "Because", "", generation, at)


CONDITIONS = st.dictionaries(
    st.sampled_from(KINDS), st.tuples(st.sampled_from(ConditionStatus), st.sampled_from([1, 2])), max_size=5
).map(lambda found: [made(kind, status, generation) for kind, (status, generation) in found.items()])


@given(CONDITIONS, st.booleans())
def test_the_first_state_of_the_precedence_that_holds_is_the_state(listed: list[Condition], gone: bool) -> None:
    holds = {each.type for each in listed if each.status is ConditionStatus.TRUE and each.observed_generation == 2}
    table = [
        (ModuleState.UNREGISTERED, gone),
        (ModuleState.ERROR, "Stalled" in holds),
        (ModuleState.ACTIVE, {"Registered", "Programmed"} <= holds),
        (ModuleState.REGISTERED, "Registered" in holds),
        (ModuleState.VALIDATED, "Valid" in holds),
        (ModuleState.DISCOVERED, True),
    ]
    assert conditions.state(listed, 2, unregistered=gone) == next(state for state, found in table if found)


def test_what_was_seen_of_an_older_generation_says_nothing_of_this_one() -> None:
    old = [made(conditions.VALID, generation=1), made(conditions.STALLED, generation=1)]
    assert conditions.state(old, 2) is ModuleState.DISCOVERED
    assert conditions.is_true(old, conditions.VALID)
    assert not conditions.is_true(old, conditions.VALID, 2)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(ConditionStatus)), max_size=12))
def test_a_status_that_stays_keeps_the_time_since_when(steps: list[tuple[str, ConditionStatus]]) -> None:
    listed: list[Condition] = []
    since: dict[str, tuple[ConditionStatus, datetime]] = {}
    for index, (kind, status) in enumerate(steps):
        at = NOW + timedelta(seconds=index)
        if since.get(kind, (None, None))[0] is not status:
            since[kind] = (status, at)
        listed = conditions.put(listed, made(kind, status, at=at))
    assert {each.type: (each.status, each.last_transition_time) for each in listed} == since
    assert [each.type for each in listed] == [kind for kind in conditions.ORDER if kind in since]


def test_a_condition_can_be_dropped_and_an_unknown_one_comes_last() -> None:
    listed = conditions.put([made("Own")], made(conditions.READY))
    assert [each.type for each in listed] == ["Ready", "Own"]
    assert conditions.drop(listed, "Own") == [listed[0]]
    assert conditions.get(listed, "None") is None
    assert made("X", False).status is ConditionStatus.FALSE


@given(CONDITIONS, st.sampled_from(KINDS), st.sampled_from(ConditionStatus))
def test_what_is_stored_is_changed_as_what_is_read(listed: list[Condition], kind: str, status: ConditionStatus) -> None:
    new = made(kind, status, at=NOW + timedelta(seconds=5))
    written = conditions.put_wire([each.wire() for each in listed], new)
    assert written == [each.wire() for each in conditions.put(listed, new)]
