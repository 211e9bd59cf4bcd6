"""Planning is pure: the same facts, the same steps."""

from hypothesis import given
from hypothesis import strategies as st

from dataplane.agent.holding import Wanted
from dataplane.agent.planning import Failure, Placed, fingerprint, plan, selects
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import OPEN

MODULE = DesiredModule(entry_point="a:A", digest="sha256:" + "0" * 64, source_path="a", namespace="a")


def wanted(name: str, digest: str = "d1", uid: str = "u1", revision: int = 1) -> Wanted:
    return Wanted(name, uid, 1, (1, revision), digest, MODULE)


def test_what_does_not_serve_is_loaded_oldest_first() -> None:
    made = plan("ab", {"a": wanted("a", revision=2), "b": wanted("b", revision=1)}, {}, {}, (), 0.0)
    assert [module.name for module in made.load] == ["b", "a"]


def test_what_serves_unchanged_is_left_alone_whatever_its_revision() -> None:
    placed = {"a": Placed("a", "u1", 1, "d1", serving=True)}
    made = plan("a", {"a": wanted("a", revision=9)}, placed, {}, (), 0.0)
    assert (made.load, made.remove) == ((), ())


def test_a_new_uid_of_the_same_payload_is_loaded_anew() -> None:
    placed = {"a": Placed("a", "old", 1, "d1", serving=True)}
    assert plan("a", {"a": wanted("a")}, placed, {}, (), 0.0).load


def test_a_final_failure_waits_for_something_new() -> None:
    failures = {"a": Failure("u1", "d1", None)}
    assert plan("a", {"a": wanted("a")}, {}, failures, (), 1e9).load == ()
    assert plan("a", {"a": wanted("a", digest="d2")}, {}, failures, (), 0.0).load


def test_a_failure_that_may_heal_is_tried_again_in_time() -> None:
    failures = {"a": Failure("u1", "d1", 5.0)}
    early = plan("a", {"a": wanted("a")}, {"a": Placed("a", "u1", 1, "d1", serving=False)}, failures, (), 4.0)
    assert (early.load, early.wake_at) == ((), 5.0)
    assert plan("a", {"a": wanted("a")}, {}, failures, (), 5.0).load


@given(st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd")))
def test_busy_names_get_no_step_and_every_other_difference_one(want: set[str], have: set[str], busy: set[str]) -> None:
    placed = {name: Placed(name, "u1", 1, "d1", serving=True) for name in have}
    made = plan("abcd", {name: wanted(name) for name in want}, placed, {}, busy, 0.0)
    assert {module.name for module in made.load} == want - have - busy
    assert {there.name for there in made.remove} == have - want - busy


def test_placement_needs_every_label() -> None:
    module = Wanted("a", "u", 1, (1, 1), "d", MODULE.model_copy(update={"worker_selector": {"zone": "x", "disk": "y"}}))
    assert selects(wanted("a"), {})
    assert not selects(module, {"zone": "x"})
    assert selects(module, {"zone": "x", "disk": "y", "more": "z"})


def test_the_quarantine_knows_code_configuration_routes_and_host() -> None:
    base = fingerprint(wanted("a"), "host/1")
    assert fingerprint(wanted("b", digest="other", uid="other"), "host/1") == base
    route = DesiredRoute(methods=["GET"], path="/", policy=OPEN)
    for change in ({"config": {"a": 1}}, {"digest": "sha256:" + "1" * 64}, {"routes": [route]}, {"entry_point": "a:B"}):
        assert fingerprint(Wanted("a", "u", 1, (1, 1), "d", MODULE.model_copy(update=change)), "host/1") != base
    assert fingerprint(wanted("a"), "host/2") != base
