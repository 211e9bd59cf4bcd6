"""What follows from the facts about one module: its conditions, its events, the next action.

    row → Valid → RoutesAccepted → DependenciesReady → (Suspended) → REGISTER → judged by the workers → Programmed

Pure: no I/O and no clock of its own; the same facts give the same decision, so the loop, a dry run and the
simulation agree.  What always holds: a generation that is registered is never un-registered by a lost
dependency, a suspension or an error of a newer one; every False or Unknown says what is waited for and what to
do.  Called by `looping` (and once more by `acting` when a claim was lost in the race); goes to `acting`.
"""

from controlplane.reconcile import (
    accepting,
    baking,
    contending,
    dependencies,
    diagnosing,
    judging,
    returning,
    unregistering,
)
from controlplane.reconcile.drafting import Draft
from controlplane.reconcile.facts import ATTEMPTS, Action, Decision, Facts
from schemas import conditions
from schemas.inspections import InspectionOutcome, InspectionReport
from schemas.meta import ConditionStatus
from schemas.module import Loading, ModuleSpec, ServingStatus

UNKNOWN = ConditionStatus.UNKNOWN
EAGERLY = "; spec.loading lazy is not acted on yet: the code was loaded at once"
_SLOW_INSPECTION = 1.0
"""Seconds after which a running inspection is worth a status write."""
_QUEUED = 0.05
"""Seconds that each inspection ahead may take: of many, nobody looks after each every second."""


def decide(facts: Facts) -> Decision:
    """The decision on one module."""
    if facts.record.deleting:
        return unregistering.decide(facts)
    draft = Draft.of(facts)
    draft.drop(conditions.DELETING)
    draft.drop(conditions.STALLED)
    _put_suspended(draft, facts)
    if facts.spec is not None:
        contending.put(draft, facts)
    if facts.spec is not None and returning.is_returned(facts):
        return returning.hold(draft, facts)
    return _registered(draft, facts) if is_registered(facts) else _gates(draft, facts)


def is_registered(facts: Facts) -> bool:
    """Whether the desired row is that of this very generation."""
    row, record = facts.desired, facts.record
    return (
        row is not None
        and not row.deleted
        and (row.uid, row.generation) == (record.uid, record.generation)
        and facts.spec is not None
        and conditions.is_true(facts.status.conditions, conditions.VALID, record.generation)
    )


def _put_suspended(draft: Draft, facts: Facts) -> None:
    if facts.spec is not None and facts.spec.suspend:
        message = "roll-out is frozen; what serves goes on serving; set spec.suspend to false to resume"
        draft.put(conditions.SUSPENDED, True, "SuspendedBySpec", message)
    else:
        draft.drop(conditions.SUSPENDED)


def _stall_by_row(draft: Draft, facts: Facts) -> None:
    if facts.row_error is not None and draft.get(conditions.STALLED) is None:
        message = f"the last edit of this module's row was refused: {facts.row_error}; correct the row"
        draft.stall("RowRejected", message)


def _gates(draft: Draft, facts: Facts) -> Decision:
    """The way of a generation up to its registration."""
    spec, report = facts.spec, facts.examination.report
    if spec is None:
        return _invalid(
            draft, facts, "SpecInvalid", f"the stored spec cannot be read: {facts.spec_error}; apply it anew"
        )
    if spec.source.digest is None:
        return _invalid(draft, facts, *_no_code(facts, spec))
    if report is None or report.outcome is not InspectionOutcome.OK:
        return _uninspected(draft, facts)
    draft.put(conditions.VALID, True, "Inspected", "manifest, code and configuration are valid")
    return _accept(draft, facts, spec, report)


def _no_code(facts: Facts, spec: ModuleSpec) -> tuple[str, str]:
    """Why there is no code: nothing lies there, or, as those say who looked, what cannot be packed."""
    told = conditions.get(facts.status.conditions, conditions.SOURCE_CURRENT)
    if told is not None and told.reason == conditions.SOURCE_INVALID:
        return told.reason, told.message
    path = spec.source_path()
    return "SourceNotFound", f"no code at {path!r} below the modules path; put {path}.py or a folder {path}/ there"


def _invalid(draft: Draft, facts: Facts, reason: str, message: str) -> Decision:
    draft.contests = ()
    draft.put(conditions.VALID, False, reason, message)
    draft.stall(reason, message)
    _put_dependencies(draft, facts)
    _put_not_registered(draft, reason, "this generation is not valid; see Valid")
    return draft.decision()


def _uninspected(draft: Draft, facts: Facts) -> Decision:
    """No answer about the code yet, or a bad one."""
    seen = facts.examination
    if seen.report is not None and (seen.report.outcome is InspectionOutcome.FAILED or seen.attempts >= ATTEMPTS):
        return _invalid(draft, facts, seen.report.reason or "InspectionFailed", _inspection_message(facts))
    due = seen.running_for is None and seen.retry_in <= 0
    action = Action.INSPECT if due else Action.NOTHING
    if seen.report is not None:
        draft.put(conditions.VALID, UNKNOWN, seen.report.reason or "InspectionFailed", _inspection_message(facts))
    elif (seen.running_for or 0.0) >= _SLOW_INSPECTION:
        draft.put(conditions.VALID, UNKNOWN, "Inspecting", "waiting for the inspection of the module's code")
    else:
        # Most inspections end within a second: the write that stored the generation said Pending, which will do.
        return _unwritten(facts, action)
    _put_dependencies(draft, facts)
    _put_not_registered(draft, "Inspecting", "waiting for the inspection of the module's code")
    _stall_by_row(draft, facts)
    return draft.decision(action, requeue_after=None if action is Action.INSPECT else _retry_after(seen.retry_in))


def _unwritten(facts: Facts, action: Action) -> Decision:
    return Decision(facts.status, action, requeue_after=patience(facts.examination.ahead))


def patience(ahead: int) -> float:
    """Seconds for which nothing has to be said of an inspection that ``ahead`` others stand before."""
    return _SLOW_INSPECTION + ahead * _QUEUED


def _retry_after(retry_in: float) -> float | None:
    return retry_in if retry_in > 0 else None


def _inspection_message(facts: Facts) -> str:
    seen = facts.examination
    assert seen.report is not None
    said = seen.report.message or "the module's code could not be inspected"
    if seen.report.outcome is InspectionOutcome.FAILED or seen.attempts == 0:
        return said
    if seen.attempts >= ATTEMPTS:
        return f"{said} (after {seen.attempts} attempts; change the code or the spec to try again)"
    return f"{said} (attempt {seen.attempts} of {ATTEMPTS}; it is tried again)"


def _accept(draft: Draft, facts: Facts, spec: ModuleSpec, report: InspectionReport) -> Decision:
    """Routes, dependencies, suspension; then registration."""
    record = facts.record
    refusal = accepting.refusal(record.name, record.uid, spec, report, facts.rivals)
    contending.refuse(draft, facts, refusal.conflicts if refusal is not None else ())
    if refusal is None:
        many = "1 route is" if len(report.routes) == 1 else f"{len(report.routes)} routes are"
        draft.put(conditions.ROUTES_ACCEPTED, True, "Accepted", f"{many} free and allowed")
    else:
        draft.put(conditions.ROUTES_ACCEPTED, False, refusal.reason, refusal.message)
        if refusal.terminal:
            draft.stall(refusal.reason, refusal.message)
    verdict = _put_dependencies(draft, facts)
    if verdict.cyclic:
        draft.stall(verdict.reason, verdict.message)
    if refusal is not None or not verdict.met or spec.suspend:
        return _held_back(draft, facts, spec, awaits_claims=refusal is not None and not refusal.terminal)
    desired = accepting.desired_module(record.name, spec, report)
    where = f"{spec.routing.api_version}/{spec.namespace(record.name)}"
    draft.put(conditions.REGISTERED, True, "Registered", f"the routes are claimed and desired below {where}")
    draft.routes = accepting.route_statuses(desired)
    contending.put(draft, facts, desired)
    judgement = judging.judge(
        facts.fleet, spec.placement.worker_selector, record.name, None, facts.store_id, programmed=False
    )
    assert judgement.status is not None
    draft.put(conditions.PROGRAMMED, judgement.status, judgement.reason, judgement.message)
    draft.workers = judgement.counts
    _stall_by_row(draft, facts)
    return draft.decision(Action.REGISTER, desired=desired, requeue_after=judgement.requeue_after, awaits_fleet=True)


def _held_back(draft: Draft, facts: Facts, spec: ModuleSpec, *, awaits_claims: bool) -> Decision:
    for kind in (conditions.ROUTES_ACCEPTED, conditions.DEPENDENCIES_READY):
        found = draft.get(kind)
        if found is not None and found.status is ConditionStatus.FALSE:
            _put_not_registered(draft, found.reason, found.message)
            break
    else:
        _put_not_registered(draft, "Suspended", "roll-out is frozen; set spec.suspend to false to resume")
    _stall_by_row(draft, facts)
    return draft.decision(awaits_claims=awaits_claims)


def _put_dependencies(draft: Draft, facts: Facts) -> dependencies.Verdict:
    wanted = facts.spec.dependencies if facts.spec is not None else []
    verdict = dependencies.judge(facts.record.name, wanted, facts.graph)
    draft.put(conditions.DEPENDENCIES_READY, verdict.met, verdict.reason, verdict.message)
    return verdict


def _put_not_registered(draft: Draft, reason: str, message: str) -> None:
    if draft.get(conditions.ROUTES_ACCEPTED) is None:
        draft.put(conditions.ROUTES_ACCEPTED, UNKNOWN, "NotInspected", "the routes are known once the code is valid")
    draft.put(conditions.REGISTERED, False, reason, message)
    draft.put(conditions.PROGRAMMED, UNKNOWN, "NotRegistered", "workers are told when this generation is registered")
    draft.workers = draft.workers.model_copy(update={"applied": 0, "rejected": 0})


def _registered(draft: Draft, facts: Facts) -> Decision:
    """The way of a generation from its registration on."""
    spec, row = facts.spec, facts.desired
    assert spec is not None
    assert row is not None
    draft.contests = ()
    _put_dependencies(draft, facts)
    latched = draft.holds(conditions.PROGRAMMED)
    judgement = judging.judge(
        facts.fleet, spec.placement.worker_selector, facts.record.name, row, facts.store_id, programmed=latched
    )
    draft.workers = judgement.counts
    if judgement.status is not None:
        eagerly = EAGERLY if spec.loading is Loading.LAZY and judgement.status is ConditionStatus.TRUE else ""
        draft.put(conditions.PROGRAMMED, judgement.status, judgement.reason, judgement.message + eagerly)
    if judgement.stalled is not None:
        draft.stall(*judgement.stalled)
    programmed = draft.holds(conditions.PROGRAMMED)
    if programmed:
        _put_serving(draft, facts, spec)
    bake = _bake(draft, facts, spec, programmed=programmed)
    if bake.verdict is baking.Verdict.FAILED and (given_up := returning.begin(draft, facts, bake)) is not None:
        return given_up
    if judgement.passing and (left := _passing_for(facts, judgement.passing)) > 0:
        return Decision(facts.status, requeue_after=left, awaits_fleet=True)
    if programmed and (found := _diagnosis(facts, spec)) is not None:
        draft.diagnosed(found)
    _stall_by_row(draft, facts)
    settled = programmed and bake.verdict is not baking.Verdict.BAKING
    if settled and bake.verdict is baking.Verdict.PASSED:
        draft.last_good = draft.serving
    stale = settled and accepting.needless_claims(row.payload, facts.held)
    return draft.decision(
        Action.RELEASE if stale else Action.NOTHING,
        requeue_after=min(filter(None, (judgement.requeue_after, bake.requeue_after)), default=None),
        awaits_fleet=not programmed,
    )


def _bake(draft: Draft, facts: Facts, spec: ModuleSpec, *, programmed: bool) -> baking.Bake:
    """How this generation proves itself; what was said of it once stays, and without a bake time it is believed."""
    told = draft.get(conditions.BAKED)
    if not spec.rollout.bake_seconds:
        draft.drop(conditions.BAKED)
        return baking.Bake(baking.Verdict.PASSED, "", "")
    if told is not None and told.status is ConditionStatus.TRUE:
        return baking.Bake(baking.Verdict.PASSED, told.reason, told.message)
    if told is not None and told.status is ConditionStatus.FALSE:
        return baking.Bake(baking.Verdict.KEPT, told.reason, told.message)
    served = (facts.now - draft.serving.since).total_seconds() if programmed and draft.serving else None
    selector, generation = spec.placement.worker_selector, facts.record.generation
    bake = baking.judge(facts.fleet, selector, facts.record.name, generation, spec.rollout, served)
    if bake.verdict is baking.Verdict.PASSED:
        draft.put(conditions.BAKED, True, bake.reason, bake.message)
    elif bake.verdict is baking.Verdict.BAKING:
        draft.put(conditions.BAKED, UNKNOWN, bake.reason, bake.message)
    return bake


def _diagnosis(facts: Facts, spec: ModuleSpec) -> diagnosing.Diagnosis | None:
    selector = spec.placement.worker_selector
    return diagnosing.diagnose(facts.fleet, selector, facts.record.name, facts.record.generation)


def _passing_for(facts: Facts, allowed: float) -> float:
    """What is left of the ``allowed`` seconds in which this generation may be on its way to workers without a word."""
    told = conditions.get(facts.status.conditions, conditions.PROGRAMMED)
    if told is None or told.observed_generation != facts.record.generation or told.status is not UNKNOWN:
        return 0.0
    since = (facts.now - told.last_transition_time).total_seconds()
    return min(allowed - since, allowed)


def _put_serving(draft: Draft, facts: Facts, spec: ModuleSpec) -> None:
    generation = facts.record.generation
    if draft.serving is None or draft.serving.generation < generation:
        digest = spec.source.digest or ""
        draft.serving = ServingStatus(
            generation=generation, digest=digest, version=spec.version, since=facts.now, reason="Newest"
        )
