"""Decisions are pure: the same facts, the same answer; what is stored is decided upon no further."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import accepting, acting, deciding
from controlplane.reconcile.dependencies import Neighbour
from controlplane.reconcile.facts import Action, Decision, Examination, Facts
from controlplane.reconcile.fleet import FleetView, Standing, WorkerView
from controlplane.store.records import Claim, Contest, DesiredRow, Record
from schemas import conditions, names
from schemas.documents import canonical_json, payload_digest
from schemas.inspections import InspectionOutcome, InspectionReport
from schemas.meta import ConditionStatus
from schemas.module import ModuleSpec, ModuleState, ModuleStatus, ServingStatus
from schemas.reports import Ailing, HealthState, Pending, Rejected, Trial, WorkerReport
from tests.doubles.inspectors import module_spec, route

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OK = InspectionReport(id="", outcome=InspectionOutcome.OK, routes=[route("/a")])
FAILED = InspectionReport(id="", outcome=InspectionOutcome.FAILED, reason="ImportFailed", message="mod.py:1: no")
TIMED_OUT = InspectionReport(id="", outcome=InspectionOutcome.TIMED_OUT, reason="InspectionTimedOut", message="slow")


def facts(generation: int = 1, **more: object) -> Facts:
    spec = module_spec()
    record = Record(
        "Module", "one", "uid-1", generation, 5, NOW, finalizers=(names.FINALIZER,), spec=spec, status={}
    )  # fmt: skip
    given_facts = Facts(record, ModuleSpec.model_validate(spec), ModuleStatus(), NOW, store_id="s")
    return replace(given_facts, **more)  # type: ignore[arg-type]


def row_of(decided: Facts, *, revision: int = 9, deleted: bool = False) -> DesiredRow:
    assert decided.spec is not None
    payload = canonical_json(accepting.desired_module("one", decided.spec, OK).wire())
    return DesiredRow(
        "module.one", "Module", "one", decided.record.uid, decided.record.generation, 1, revision,
        payload_digest(payload), "" if deleted else payload, deleted,
    )  # fmt: skip


def worker(name: str = "w0", standing: Standing = Standing.COUNTED, revision: int = 9, **more: object) -> WorkerView:
    given_report: dict[str, object] = {
        "id": name, "boot": "b", "applied_epoch": 1, "applied_revision": revision, "synced": True, "store": "s",
        "started_at": NOW, "reported_at": NOW,
    }  # fmt: skip
    return WorkerView(WorkerReport.model_validate({**given_report, **more}), standing)


def fleet(*workers: WorkerView, proven_for: float | None = 100.0) -> FleetView:
    return FleetView(
        {view.report.id: view for view in workers}, proven_for is not None, proven_for or 0.0, ()
    )  # fmt: skip


def after(decided: Facts, decision: Decision) -> Facts:
    """The facts once a decision is stored, as far as it changes them."""
    spec = decided.spec
    row = decided.desired
    if decision.action is Action.REGISTER:
        row = row_of(decided)
    elif decision.action is Action.RETURN and row is not None:
        assert decided.status.last_good is not None
        row = replace(row, generation=decided.status.last_good.generation, revision=row.revision + 1)
    elif decision.action is Action.WITHDRAW and row is not None:
        row = replace(row, deleted=True, payload="", revision=row.revision + 1)
    later = decided.now + timedelta(seconds=1)
    contests = decided.contests if decision.contests is None else decision.contests
    return replace(decided, status=decision.status, desired=row, now=later, spec=spec, contests=contests)


def reason(decision: Decision, kind: str) -> str:
    found = conditions.get(decision.status.conditions, kind)
    return "" if found is None else f"{found.status}:{found.reason}"


def test_a_generation_is_registered_and_then_programmed() -> None:
    first = facts(examination=Examination("k", OK), fleet=fleet(worker(revision=3)))
    decision = deciding.decide(first)
    assert decision.action is Action.REGISTER
    assert [step.to for step in decision.steps] == [ModuleState.VALIDATED, ModuleState.REGISTERED]
    assert reason(decision, "Programmed") == "Unknown:Applying"
    assert decision.awaits_fleet
    second = after(first, decision)
    assert not acting.is_needed(second, deciding.decide(second))
    third = replace(second, fleet=fleet(worker(revision=9)))
    decision = deciding.decide(third)
    assert [step.to for step in decision.steps] == [ModuleState.ACTIVE]
    assert decision.status.serving is not None
    assert not acting.is_needed(after(third, decision), deciding.decide(after(third, decision)))


@pytest.mark.parametrize(("loading", "told"), [("eager", ""), ("lazy", deciding.EAGERLY)])
def test_lazy_loading_is_not_there_yet_and_that_is_said(loading: str, told: str) -> None:
    spec = ModuleSpec.model_validate(module_spec() | {"loading": loading})
    first = facts(spec=spec, examination=Examination("k", OK), fleet=fleet(worker(revision=9)))
    decision = deciding.decide(after(first, deciding.decide(first)))
    found = conditions.get(decision.status.conditions, conditions.PROGRAMMED)
    assert found is not None
    assert found.message == f"1 worker has applied this generation{told}"


def test_a_stored_generation_without_an_answer_is_inspected_without_a_write() -> None:
    fresh = facts()
    decision = deciding.decide(fresh)
    assert decision.action is Action.INSPECT
    assert not acting.is_needed(fresh, decision)
    running = facts(examination=Examination("k", running_for=5.0))
    decision = deciding.decide(running)
    assert decision.action is Action.NOTHING
    assert reason(decision, "Valid") == "Unknown:Inspecting"
    waiting = facts(examination=Examination("k", TIMED_OUT, 1, retry_in=2.5))
    decision = deciding.decide(waiting)
    assert (decision.action, decision.requeue_after) == (Action.NOTHING, 2.5)
    due = facts(examination=Examination("k", TIMED_OUT, 2))
    assert deciding.decide(due).action is Action.INSPECT


def test_unhealthy_is_not_ready() -> None:
    ailing = Ailing(
        module="one", generation=1, state=HealthState.UNHEALTHY, reason="CheckFailed", message="no database", since=NOW
    )
    given_facts = facts(examination=Examination("k", OK), fleet=fleet(worker(ailing=[ailing]), worker("w1")))
    registered = after(given_facts, deciding.decide(given_facts))
    decision = deciding.decide(registered)
    assert decision.status.state is ModuleState.ACTIVE
    assert reason(decision, "Healthy") == reason(decision, "Ready") == "False:Unhealthy"
    found = conditions.get(decision.status.conditions, "Healthy")
    assert found is not None
    assert found.message == "on 1 of 2 workers: w0: no database (CheckFailed)"
    well = deciding.decide(replace(after(registered, decision), fleet=fleet(worker(), worker("w1"))))
    assert reason(well, "Ready") == "True:Serving"


def test_the_time_of_a_check_alone_is_worth_no_write() -> None:
    given_facts = facts(examination=Examination("k", OK), fleet=fleet(worker(checked={"one": 1_900_000_000})))
    registered = after(given_facts, deciding.decide(given_facts))
    programmed = after(registered, deciding.decide(registered))
    assert programmed.status.health is not None
    assert programmed.status.health.last_check == datetime.fromtimestamp(1_900_000_000, UTC)
    later = replace(programmed, fleet=fleet(worker(checked={"one": 1_900_000_009})))
    assert not acting.is_needed(later, deciding.decide(later))


def test_a_worker_of_another_store_has_applied_nothing_of_ours() -> None:
    given_facts = facts(examination=Examination("k", OK), fleet=fleet(worker(store="other", revision=99)))
    registered = after(given_facts, deciding.decide(given_facts))
    assert reason(deciding.decide(registered), "Programmed") == "Unknown:Applying"


def test_a_rejection_of_an_older_generation_is_not_this_one_s() -> None:
    old = Rejected(module="one", generation=1, reason="ImportFailed", message="no")
    given_facts = facts(2, examination=Examination("k", OK), fleet=fleet(worker(rejected=[old])))
    registered = after(given_facts, deciding.decide(given_facts))
    decision = deciding.decide(registered)
    assert reason(decision, "Programmed") == "Unknown:Applying"
    assert reason(decision, "Stalled") == ""


def test_a_message_names_who_is_waited_for_and_why() -> None:
    slow = Pending(module="one", generation=1, since=NOW, reason="StartFailed", message="no database")
    quiet = Pending(module="one", generation=1, since=NOW, reason="Building")
    view = fleet(worker("w0"), worker("w1", pending=[slow]), worker("w2", pending=[quiet]))
    given_facts = facts(examination=Examination("k", OK), fleet=view)
    registered = after(given_facts, deciding.decide(given_facts))
    found = conditions.get(deciding.decide(registered).status.conditions, "Programmed")
    assert found is not None
    assert found.message == (
        "waiting for 2 of 3 workers to apply this generation: w1 (StartFailed: no database), w2 (Building)"
    )


def test_claims_that_only_older_generations_needed_are_given_back_once_programmed() -> None:
    stale = Claim("v1", "one", "GET", "/old", "/old", "uid-1", "one", 2, NOW)
    given_facts = facts(examination=Examination("k", OK), fleet=fleet(worker()), held=(stale,))
    registered = after(given_facts, deciding.decide(given_facts))
    decision = deciding.decide(registered)
    assert decision.action is Action.RELEASE
    assert acting.is_needed(registered, decision)


def test_joining_workers_are_waited_for_no_longer_than_nobody_at_all() -> None:
    joining = fleet(worker(standing=Standing.JOINING), proven_for=5.0)
    given_facts = facts(examination=Examination("k", OK), fleet=joining)
    registered = after(given_facts, deciding.decide(given_facts))
    decision = deciding.decide(registered)
    assert (reason(decision, "Programmed"), decision.requeue_after) == ("Unknown:WorkersJoining", 25.0)
    late = replace(registered, fleet=fleet(worker(standing=Standing.JOINING), proven_for=31.0))
    decision = deciding.decide(late)
    assert reason(decision, "Programmed") == "False:NoWorkers"
    assert "still loading: w0" in decision.steps[0].message
    assert [step.reason for step in decision.steps] == ["NoWorkers"]


def test_a_new_object_that_takes_over_a_row_of_another_uid_registers_anew() -> None:
    given_facts = facts(examination=Examination("k", OK), fleet=fleet(worker()))
    registered = after(given_facts, deciding.decide(given_facts))
    assert registered.desired is not None
    stolen = replace(registered, desired=replace(registered.desired, uid="other"))
    assert deciding.decide(stolen).action is Action.REGISTER


def test_a_deleted_object_without_finalizers_goes() -> None:
    given_facts = facts()
    record = replace(given_facts.record, deleted_at=NOW, finalizers=())
    assert deciding.decide(replace(given_facts, record=record)).action is Action.REMOVE


_EXAMINATIONS = st.sampled_from(
    [
        Examination("k"),
        Examination("k", OK),
        Examination("k", FAILED),
        Examination("k", TIMED_OUT, 1, None, 3.0),
        Examination("k", TIMED_OUT, 3),
        Examination("k", running_for=4.0),
        Examination("k", OK.model_copy(update={"routes": [route("/health")]})),
    ]
)
AILING = Ailing(
    module="one", generation=1, state=HealthState.UNHEALTHY, reason="CheckFailed", message="no database", since=NOW
)
_WORKERS = st.lists(
    st.builds(
        worker,
        st.sampled_from(["w0", "w1", "w2"]),
        st.sampled_from(list(Standing)),
        st.integers(7, 11),
        rejected=st.sampled_from([[], [Rejected(module="one", generation=1, reason="R", message="m")]]),
        pending=st.sampled_from([[], [Pending(module="one", generation=1, since=NOW, reason="P")]]),
        ailing=st.sampled_from([[], [AILING], [AILING.model_copy(update={"generation": 2})]]),
        trials=st.sampled_from([[], [Trial(module="one", generation=2, calls=40, errors=20)]]),
        checked=st.sampled_from([{}, {"one": 1_900_000_000}]),
    ),
    max_size=3,
)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Facts of any kind, also such that do not fit each other."""
    given_facts = facts(
        draw(st.integers(1, 2)),
        examination=draw(_EXAMINATIONS),
        fleet=fleet(*draw(_WORKERS), proven_for=draw(st.sampled_from([None, 0.0, 5.0, 31.0, 500.0]))),
        row_error=draw(st.sampled_from([None, "nonsense"])),
        graph=draw(st.sampled_from([{}, {"b": Neighbour("b", "1.0.0")}, {"b": Neighbour("b", None, False, ("one",))}])),
        rivals=draw(st.sampled_from([(), (Claim("v1", "one", "GET", "/a", "/a", "u2", "two", 1, NOW),)])),
        held=draw(st.sampled_from([(), (Claim("v1", "one", "GET", "/a", "/a", "uid-1", "one", 1, NOW),)])),
        near=draw(st.sampled_from([(), (Claim("v1", "one", "*", "/{:path}", "/{p:path}", "u3", "three", 2, NOW),)])),
        refused=draw(st.sampled_from([(), (Contest("v1", "one", "GET", "/a", "/a", "u4", "four", NOW),)])),
        contests=draw(st.sampled_from([(), (Contest("v1", "one", "PUT", "/b", "/b", "uid-1", "one", NOW),)])),
        deleting_for=draw(st.sampled_from([0.0, 61.0])),
    )
    spec = module_spec(suspend=draw(st.booleans()))
    if draw(st.booleans()):
        spec["dependencies"] = [{"name": "b", "version": "*"}]
    if draw(st.booleans()):
        del spec["source"]
    if draw(st.booleans()):
        spec["rollout"] = {"bakeSeconds": 60}
    deleted = draw(st.sampled_from([None, NOW]))
    finalizers = draw(st.sampled_from([(), (names.FINALIZER,), (names.FINALIZER, "x/y"), ("x/y",)]))
    record = replace(given_facts.record, deleted_at=deleted, finalizers=finalizers, spec=spec)
    parsed = draw(st.sampled_from([ModuleSpec.model_validate(spec), ModuleSpec.model_validate(spec), None]))
    given_facts = replace(given_facts, record=record, spec=parsed)
    if parsed is not None and draw(st.booleans()):
        given_facts = replace(given_facts, desired=row_of(given_facts, deleted=draw(st.booleans())))
    if parsed is not None and draw(st.booleans()):
        good = ServingStatus(generation=1, version="1.0.0", since=NOW)
        given_facts = replace(
            given_facts,
            status=given_facts.status.model_copy(update={"last_good": good, "serving": good}),
            last_good=draw(st.sampled_from([None, accepting.desired_module("one", parsed, OK)])),
        )
    if draw(st.booleans()):
        given_facts = replace(given_facts, status=deciding.decide(given_facts).status)
    return given_facts


@given(any_facts())
def test_every_decision_is_consistent_with_itself(given_facts: Facts) -> None:
    decision = deciding.decide(given_facts)
    assert decision == deciding.decide(given_facts)
    status = decision.status
    kinds = [condition.type for condition in status.conditions]
    assert len(kinds) == len(set(kinds))
    assert all(condition.message and condition.reason[0].isupper() for condition in status.conditions)
    for abnormal in (
        conditions.ROUTES_CONTESTED,
        conditions.ROUTES_OVERLAP,
        conditions.SUSPENDED,
        conditions.STALLED,
        conditions.DELETING,
    ):
        found = conditions.get(status.conditions, abnormal)
        assert found is None or found.status is ConditionStatus.TRUE
    ready = conditions.is_true(status.conditions, conditions.READY)
    assert not ready or conditions.is_true(status.conditions, conditions.PROGRAMMED, given_facts.record.generation)
    assert [step.from_ for step in decision.steps[1:]] == [step.to for step in decision.steps[:-1]]
    if decision.steps:
        assert decision.steps[-1].to == status.state
    if decision.action is Action.RETURN:
        assert decision.desired == given_facts.last_good
        assert conditions.is_true(status.conditions, conditions.STALLED, given_facts.record.generation)
        assert status.state is ModuleState.ERROR
    if decision.action is Action.REGISTER:
        assert decision.desired is not None
        assert given_facts.spec is not None
        assert not given_facts.spec.suspend
        assert not given_facts.rivals


@given(any_facts())
def test_what_was_stored_needs_no_second_write(given_facts: Facts) -> None:
    """Rule 5: applied to its own outcome a decision comes to rest within a few steps, and then writes nothing."""
    current = given_facts
    for _ in range(4):
        decision = deciding.decide(current)
        if decision.action in (Action.REMOVE, Action.FINALIZE):
            return
        current = after(current, decision)
        if decision.action is Action.RELEASE:
            current = replace(current, held=())
    assert not acting.is_needed(current, deciding.decide(current))


@pytest.mark.parametrize("generation", [1, 2])
@given(given_facts=any_facts())
def test_transition_times_move_only_with_their_status(given_facts: Facts, generation: int) -> None:
    first = deciding.decide(given_facts).status
    later = replace(given_facts, status=first, now=NOW + timedelta(hours=generation))
    second = deciding.decide(later).status
    for condition in second.conditions:
        old = conditions.get(first.conditions, condition.type)
        if old is not None and old.status is condition.status:
            assert condition.last_transition_time == old.last_transition_time


def test_code_that_cannot_be_packed_says_why_and_its_condition_disturbs_nothing() -> None:
    linked = conditions.condition(
        conditions.SOURCE_CURRENT, False, conditions.SOURCE_INVALID, "x.py: a symbolic link", 1, NOW
    )
    status = ModuleStatus(conditions=[linked])
    bare = {key: value for key, value in module_spec().items() if key != "source"}
    decision = deciding.decide(facts(spec=ModuleSpec.model_validate(bare), status=status))
    for kind in (conditions.VALID, conditions.STALLED):
        found = conditions.get(decision.status.conditions, kind)
        assert found is not None
        assert (found.reason, found.message) == (linked.reason, linked.message)
    assert conditions.get(decision.status.conditions, conditions.SOURCE_CURRENT) == linked
    serving = deciding.decide(facts(status=status, examination=Examination(report=OK)))
    assert serving.action is Action.REGISTER
    assert conditions.get(serving.status.conditions, conditions.SOURCE_CURRENT) == linked
