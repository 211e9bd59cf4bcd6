"""Whom a change concerns: what is remembered between turns, and what is news to whom."""

from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile.facts import Decision
from controlplane.reconcile.waking import UNWRITTEN, Memory
from schemas.module import ModuleStatus

NAMES = st.sampled_from("abcde")
SAID = st.frozensets(NAMES, max_size=4)


@given(st.lists(st.tuples(NAMES, st.none() | SAID), max_size=30))
def test_who_is_spoken_of_is_known_as_if_all_had_been_asked(
    steps: list[tuple[str, frozenset[str] | None]],
) -> None:
    memory = Memory()
    said: dict[str, frozenset[str]] = {}
    for name, touching in steps:
        if touching is None:
            memory.forget(name)
            said.pop(name, None)
            continue
        before = said.get(name)
        said[name] = touching
        speakers = {other for other, words in said.items() if name in words}
        news = ((before or frozenset()) ^ touching) | (speakers - touching)
        assert memory.touch(name, touching) == (frozenset() if before == touching else news)
    for name in said:
        memory.forget(name)
    assert not memory._touched_by, "nothing is left of those that are gone"


def test_no_report_is_about_a_row_that_is_being_written_until_it_is() -> None:
    memory = Memory()
    waits = Decision(ModuleStatus(), awaits_fleet=True)
    memory.await_for("a", waits, UNWRITTEN)
    memory.await_for("b", waits)
    memory.await_for("c", waits, (1, 4))
    assert memory.reached((1, 3), (1, 9)) == [("b", None), ("c", (1, 4))]
    for name in ("a", "b", "c", "d"):
        memory.told(name, (1, 7))
    assert memory.awaiting_fleet == {"a": (1, 7), "b": None, "c": (1, 4)}
    assert memory.reached((1, 4), (1, 9)) == [("a", (1, 7)), ("b", None)]
