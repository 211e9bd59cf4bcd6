"""A new generation goes forward in the very transaction that stores it, if nothing has to be waited for.

    apply ──one transaction──▶ DISCOVERED → VALIDATED → REGISTERED, claims, desired row

Code that was never seen is handed to inspection while the transaction is still being committed.
What always holds: the steps are the loop's own (`loading`, `deciding`, `acting`), only sooner; they are taken under
the lease's epoch or not at all; whatever is not settled yet (a dependency, a refusal, what an inspection finds) is
the loop's, which looks at every new generation anyway.  Called by `controlplane.writing` inside its transaction, which
may run twice; goes to the store.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from controlplane import errors
from controlplane.reconcile import acting, deciding, examining, loading
from controlplane.reconcile.facts import Action, Decision, Facts
from controlplane.reconcile.fleet import FleetView
from controlplane.store.records import Record
from controlplane.store.transactions import Transaction
from schemas.module import ModuleSpec

logger = structlog.get_logger("controlplane.reconcile.forwarding")


@dataclass(frozen=True, slots=True)
class Forwarder:
    """What the leader knows at the moment of a write."""

    examiner: examining.Examiner
    fleet: FleetView
    store_id: str
    epoch: int
    inspect: Callable[[Record, ModuleSpec], None]
    """Begins an inspection; called on the writer's thread."""

    def __call__(self, tx: Transaction, record: Record) -> Record:
        """Register the generation that ``record`` has just brought, if that is what follows from the facts."""
        try:
            tx.check_epoch(self.epoch)
            found = self._decided(tx, record)
        except errors.Fenced:
            return record
        except Exception:
            # the loop meets it in a moment, and says so where people look
            logger.exception("generation not brought forward", module=record.name, generation=record.generation)
            return record
        if found is None:
            return record
        facts, decision = found
        if decision.action is Action.REGISTER and not facts.examination.unsaved:
            return acting.write(tx, facts, decision).record
        if decision.action is Action.INSPECT and facts.spec is not None:
            self.inspect(facts.record, facts.spec)
        return record

    def _decided(self, tx: Transaction, record: Record) -> tuple[Facts, Decision] | None:
        facts = loading.read(tx, record.name, tx.now, self.examiner)
        if facts is None:
            return None
        facts = replace(facts, fleet=self.fleet, store_id=self.store_id)
        return facts, deciding.decide(facts)
