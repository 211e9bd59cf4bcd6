"""What discovery reads and writes of stored modules: their part in a scan, and the condition SourceCurrent.

The condition is there only while a module does not run the code that lies in the modules path.  It is discovery's
alone: `controlplane.reconcile` carries it along, and nothing that a module waits for depends on it.  Called by
`controlplane.discovery.discovering`; the functions run inside the store's closures.
"""

from collections.abc import Mapping
from dataclasses import replace

from controlplane.admission import owning
from controlplane.discovery.concluding import Known, Note
from controlplane.store.readings import Reading
from controlplane.store.records import Record
from controlplane.store.transactions import Transaction
from schemas import conditions, names
from schemas.meta import Condition
from schemas.module import ModuleStatus


def known(reading: Reading) -> list[Known]:
    """Every module, as a scan sees it."""
    return [_known(record) for record in reading.list("Module")]


def note(tx: Transaction, notes: Mapping[str, Note | None], uids: Mapping[str, str]) -> None:
    """Write conditions of modules, by name, that still have the uid that was read."""
    for name, told in notes.items():
        record = tx.get("Module", name)
        if record is not None and record.uid == uids[name] and not record.deleting:
            tx.put(_noted(tx, record, told))


def _known(record: Record) -> Known:
    source = record.spec.get("source") or {}
    owners = owning.owners_of(record.managed_fields, "spec.entryPoint")
    others = {str(entry.get("manager")) for entry in record.managed_fields} - {names.MANAGER_DISCOVERY}
    pinned = owning.owners_of(record.managed_fields, owning.DIGEST)
    told, told_of = _told(record)
    return Known(
        name=record.name,
        uid=record.uid,
        path=source.get("path") or "",
        digest=source.get("digest"),
        generation=record.generation,
        revision=record.revision,
        made=owners == [names.MANAGER_DISCOVERY],
        declared=names.MANAGER_DISCOVERY in owners,
        others=tuple(sorted(others)),
        pinned_by=tuple(owner for owner in pinned if owner != names.MANAGER_DISCOVERY),
        deleting=record.deleting,
        told=told,
        told_of=told_of,
    )


def _told(record: Record) -> tuple[Note | None, int]:
    for entry in record.status.get("conditions", ()):
        if entry.get("type") == conditions.SOURCE_CURRENT:
            return Note(entry.get("reason", ""), entry.get("message", "")), entry.get("observedGeneration", 0)
    return None, 0


def _noted(tx: Transaction, record: Record, told: Note | None) -> Record:
    status = record.status or ModuleStatus().wire()
    listed = [Condition.model_validate(entry) for entry in status.get("conditions", ())]
    if told is None:
        listed = conditions.drop(listed, conditions.SOURCE_CURRENT)
    else:
        new = conditions.condition(
            conditions.SOURCE_CURRENT, False, told.reason, told.message, record.generation, tx.now
        )
        listed = conditions.put(listed, new)
    return replace(record, status={**status, "conditions": [entry.wire() for entry in listed]})
