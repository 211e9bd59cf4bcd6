"""What follows from the facts about a module that is being deleted.

    WITHDRAW (tombstone) → counted workers report the routes gone, or 60 s → FINALIZE → UNREGISTERED → it goes

Pure.  What always holds: deletion gets through from every state (back-off, ERROR, suspended, no workers); what
holds it is named in Deleting; foreign finalizers never hold up ours.  Called by `deciding`.
"""

from controlplane.reconcile import judging
from controlplane.reconcile.drafting import Draft, blocked_by
from controlplane.reconcile.facts import Action, Decision, Facts
from schemas import conditions, names

DEADLINE = 60.0
"""Seconds for which our finalizer waits for workers at most."""
_LOOK_AGAIN = 0.5
"""Seconds between looks while no worker counts, or may be still unheard."""


def decide(facts: Facts) -> Decision:
    """The decision on a module whose deletion was asked for."""
    draft = Draft.of(facts)
    finalizers = facts.record.finalizers
    if not finalizers:
        draft.touching = set()
        return draft.decision(Action.REMOVE, unregistered=True)
    if names.FINALIZER not in finalizers:
        _put_unregistered(draft, _held_by(facts), "HeldByFinalizers")
        return draft.decision(unregistered=True)
    row = facts.desired
    if row is not None and not row.deleted:
        message = "the routes are withdrawn; waiting for the workers to report them gone"
        draft.put(conditions.DELETING, True, "Withdrawing", message)
        return draft.decision(Action.WITHDRAW, requeue_after=_patience(facts), awaits_fleet=True)
    silent = _silent(facts)
    if silent and facts.deleting_for < DEADLINE:
        message = f"waiting for {silent} to report the routes gone, for {DEADLINE:.0f} s at most"
        draft.put(conditions.DELETING, True, "Draining", message)
        return draft.decision(requeue_after=_patience(facts), awaits_fleet=True)
    return _finalize(draft, facts, silent)


def _patience(facts: Facts) -> float:
    """Seconds until time alone may change the answer: the deadline, or the fleet's settling."""
    remaining = max(DEADLINE - facts.deleting_for, 0.0)
    return remaining if facts.fleet.settled and judging.counted(facts.fleet) else min(remaining, _LOOK_AGAIN)


def _silent(facts: Facts) -> str:
    """Who has not reported the routes gone; empty: everybody who counts has."""
    row = facts.desired
    if row is None or row.uid != facts.record.uid:
        return ""
    workers = judging.unconfirmed(facts.fleet, facts.record.name, row, facts.store_id)
    if workers:
        return "workers " + ", ".join(workers) if len(workers) > 1 else f"worker {workers[0]}"
    return "" if facts.fleet.settled else "the workers' reports"


def _finalize(draft: Draft, facts: Facts, silent: str) -> Decision:
    others = blocked_by(facts.record.finalizers)
    message = "the routes are gone"
    reason = "RoutesGone"
    if silent:
        reason, message = "DeadlinePassed", f"{silent} did not confirm within {DEADLINE:.0f} s; gone on without"
    elif lost := judging.lost_workers(facts.fleet):
        message = f"the routes are gone from every reporting worker; silent: {', '.join(lost)}"
    if others:
        message += f"; {_held_by(facts)}"
    _put_unregistered(draft, message, reason)
    draft.touching = set()
    return draft.decision(Action.FINALIZE, unregistered=True)


def _held_by(facts: Facts) -> str:
    others = ", ".join(blocked_by(facts.record.finalizers))
    return f"still held by {others}: remove it from metadata.finalizers when its work is done"


def _put_unregistered(draft: Draft, message: str, reason: str) -> None:
    draft.put(conditions.DELETING, True, reason, message)
    for kind in (conditions.REGISTERED, conditions.PROGRAMMED):
        draft.put(kind, False, "Unregistered", "the module is being deleted; its routes are gone")
    for kind in (conditions.STALLED, conditions.ROUTES_CONTESTED, conditions.ROUTES_OVERLAP):
        draft.drop(kind)
