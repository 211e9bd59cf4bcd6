"""Back to the last good generation, when a newer one does not prove itself; and staying there.

    Baked=Unknown ──baking.judge──▶ FAILED ──▶ RETURN: the row of the last good generation, Baked=False, Stalled
                                                  └──▶ held, until the spec or the code changes

Pure.  What always holds: what was given up is not tried again by itself (the condition Baked, stored with the row, is
the latch); claims of both generations are kept until the workers serve the last good one; without a last good
generation nothing is taken away.  Called by `deciding`.
"""

from controlplane.reconcile import accepting, baking, diagnosing, judging
from controlplane.reconcile.drafting import Draft
from controlplane.reconcile.facts import Action, Decision, Facts
from schemas import conditions
from schemas.meta import ConditionStatus

RETURNED = "ReturnedToLastGood"
STAYS = "NothingToReturnTo"


def is_returned(facts: Facts) -> bool:
    """Whether the last good generation serves in place of this very one."""
    row, good, record = facts.desired, facts.status.last_good, facts.record
    baked = conditions.get(facts.status.conditions, conditions.BAKED)
    return (
        row is not None
        and not row.deleted
        and good is not None
        and baked is not None
        and (baked.status, baked.observed_generation) == (ConditionStatus.FALSE, record.generation)
        and (row.uid, row.generation) == (record.uid, good.generation)
        and good.generation < record.generation
    )


def begin(draft: Draft, facts: Facts, bake: baking.Bake) -> Decision | None:
    """Give this generation up; None: there is nothing to return to, so it stays, which Baked says."""
    good, payload = facts.status.last_good, facts.last_good
    if good is None or payload is None or good.generation >= facts.record.generation:
        why = "there is no earlier generation that has proved itself" if good is None else (
            f"generation {good.generation} cannot be made again from what is kept"
        )  # fmt: skip
        draft.put(conditions.BAKED, False, STAYS, f"{bake.message}; it goes on serving, for {why}")
        return None
    message = (
        f"generation {facts.record.generation} was given up: {bake.message}; generation {good.generation} "
        f"(version {good.version or 'unknown'}) serves again; change the spec or the code to try anew"
    )
    draft.put(conditions.BAKED, False, bake.reason, message)
    draft.stall(bake.reason, message)
    draft.put(conditions.PROGRAMMED, False, RETURNED, _instead(good.generation))
    draft.workers = draft.workers.model_copy(update={"applied": 0, "rejected": 0})
    return draft.decision(Action.RETURN, desired=payload, awaits_fleet=True)


def hold(draft: Draft, facts: Facts) -> Decision:
    """How it stands while the last good generation serves instead."""
    spec, row, good = facts.spec, facts.desired, facts.status.last_good
    assert spec is not None
    assert row is not None
    assert good is not None
    baked = draft.get(conditions.BAKED)
    assert baked is not None
    draft.contests = ()
    draft.stall(baked.reason, baked.message)
    draft.put(conditions.PROGRAMMED, False, RETURNED, _instead(good.generation))
    selector = spec.placement.worker_selector
    judgement = judging.judge(facts.fleet, selector, facts.record.name, row, facts.store_id, programmed=False)
    draft.workers = judgement.counts
    there = judgement.status is ConditionStatus.TRUE
    if there and (draft.serving is None or draft.serving.generation != good.generation):
        draft.serving = good.model_copy(update={"since": facts.now, "reason": RETURNED})
    serves = draft.serving is not None and draft.serving.generation == good.generation
    if serves and (found := diagnosing.diagnose(facts.fleet, selector, facts.record.name, good.generation)):
        draft.diagnosed(found)
    stale = serves and accepting.needless_claims(row.payload, facts.held)
    return draft.decision(
        Action.RELEASE if stale else Action.NOTHING, requeue_after=judgement.requeue_after, awaits_fleet=not serves
    )


def _instead(generation: int) -> str:
    return f"the workers are told to serve generation {generation} instead; see Baked"
