"""Stores a decision: conditions, claims, desired row, finalizer and events, in one fenced transaction.

What always holds: the object is first compared with what was read (uid and revision), so an old decision writes
nothing; a lost race for a claim is decided anew inside the same transaction; a decision that changes nothing
costs no transaction at all.  A unit may run twice and touches nothing but its transaction.

Called by `looping`; goes to the store, from where `controlplane.messaging` takes rows and events.
"""

from dataclasses import dataclass, replace

from controlplane import errors
from controlplane.reconcile import accepting, deciding, examining
from controlplane.reconcile.facts import Action, Decision, Facts
from controlplane.store.records import DesiredRow, Record
from controlplane.store.transactions import Transaction
from schemas import names
from schemas.documents import canonical_json
from schemas.module import DesiredModule

MANAGER = "modplane-reconcile"

_WRITING = frozenset({Action.REGISTER, Action.RETURN, Action.RELEASE, Action.WITHDRAW, Action.FINALIZE, Action.REMOVE})
RELEASING = frozenset({Action.RELEASE, Action.FINALIZE, Action.REMOVE})
"""Actions after which claims may be free."""
TELLING = frozenset({Action.REGISTER, Action.RETURN, Action.WITHDRAW})
"""Actions that write a desired row."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction stored."""

    decision: Decision
    """The one that was carried out: another than asked for when a claim was lost."""
    record: Record
    """The object as it is stored now; its last form if it went."""
    row: DesiredRow | None = None
    """The module's desired row afterwards, where it matters."""


def is_needed(facts: Facts, decision: Decision) -> bool:
    """Whether a decision has to be written at all."""
    told = decision.contests is None or decision.contests == facts.contests
    return decision.action in _WRITING or bool(decision.steps) or decision.status != facts.status or not told


def write(tx: Transaction, facts: Facts, decision: Decision) -> Written:
    """Store ``decision`` on ``facts``; raises `errors.Conflict` when the object is not the one that was read."""
    record = _same(tx, facts.record)
    if facts.examination.unsaved:
        tx.put_inspection(facts.examination.key, examining.stored(facts.examination))
    row = facts.desired
    if decision.action is Action.REGISTER:
        decision, row = _register(tx, facts, decision)
    elif decision.action is Action.RETURN:
        decision, row = _return(tx, facts, decision)
    elif decision.action is Action.WITHDRAW:
        row = tx.withdraw(names.module_key(record.name))
    elif decision.action is Action.RELEASE:
        _release(tx, facts)
    elif decision.action in (Action.FINALIZE, Action.REMOVE):
        tx.release_claims(record.uid)
        tx.contest(record.uid, ())
        record = replace(record, finalizers=tuple(name for name in record.finalizers if name != names.FINALIZER))
    if decision.contests is not None and decision.contests != facts.contests:
        tx.contest(record.uid, decision.contests)
    return Written(decision, _store(tx, facts, record, decision), row)


def _same(tx: Transaction, read: Record) -> Record:
    if not tx.stands(read):
        raise errors.Conflict(f"Module {read.name!r} changed while it was decided upon; it is decided anew")
    return read


def _register(tx: Transaction, facts: Facts, decision: Decision) -> tuple[Decision, DesiredRow | None]:
    record, desired = facts.record, decision.desired
    assert desired is not None
    rivals = tx.take_claims(record, desired.api_version, desired.namespace, accepting.claims_of(desired))
    if rivals:
        return deciding.decide(replace(facts, rivals=tuple(rivals))), facts.desired
    row = tx.desire(
        key=names.module_key(record.name),
        kind="Module",
        name=record.name,
        uid=record.uid,
        generation=record.generation,
        payload=canonical_json(desired.wire()),
    )
    if row == facts.desired:
        # It was desired before (the status had been lost): no worker will report anything new.
        decision = replace(decision, requeue_after=0.0)
    return decision, row


def _return(tx: Transaction, facts: Facts, decision: Decision) -> tuple[Decision, DesiredRow | None]:
    """The row of the last good generation, whose claims are still held; if not, this one stays."""
    record, desired, good = facts.record, decision.desired, facts.status.last_good
    assert desired is not None
    assert good is not None
    if tx.take_claims(record, desired.api_version, desired.namespace, accepting.claims_of(desired)):
        return deciding.decide(replace(facts, last_good=None)), facts.desired
    row = tx.desire(
        key=names.module_key(record.name),
        kind="Module",
        name=record.name,
        uid=record.uid,
        generation=good.generation,
        payload=canonical_json(desired.wire()),
    )
    return decision, row


def _release(tx: Transaction, facts: Facts) -> None:
    assert facts.desired is not None
    serving = DesiredModule.model_validate_json(facts.desired.payload)
    keep = [
        (serving.api_version, serving.namespace, method, shape) for method, shape, _ in accepting.claims_of(serving)
    ]
    tx.release_claims(facts.record.uid, keep)


def _store(tx: Transaction, facts: Facts, record: Record, decision: Decision) -> Record:
    """Put status and events; let the object go when nobody holds it."""
    if decision.status != facts.status or record.finalizers != facts.record.finalizers:
        record = tx.put(replace(record, status=decision.status.wire()), manager=MANAGER)
    for step in decision.steps:
        tx.transition(
            record, str(step.to), step.reason, step.message, from_=None if step.from_ is None else str(step.from_)
        )
    if decision.action in (Action.FINALIZE, Action.REMOVE) and not record.finalizers:
        return tx.remove(record)
    return record
