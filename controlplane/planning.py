"""What one write makes of one object: pure, so that a dry run, a list and a single call all tell the same story.

    Write (what is asked) + Record (what is stored) ──plan──▶ Step (what is to be stored, and how to call it)

Always holds: server-owned metadata (uid, generation, times, our finalizer, status) never comes from the caller;
the generation moves exactly when the spec does; a Step with ``after is before`` costs no write.  Validation and
ownership are `controlplane.admission`'s; here they are put in order.  Called by `controlplane.writing` inside a
transaction (or a reading, for dry runs), which may run it twice.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from controlplane import errors, intaking
from controlplane.admission import defaulting, owning, validating
from controlplane.store.records import Record
from schemas import conditions, kinds, names
from schemas.meta import ConditionStatus, Json
from schemas.module import ModuleState, ModuleStatus
from schemas.problems import Violation

PATH_GROUP: Final = "spec.source.path"

Digests = Callable[[str], str | None]
"""From a source path to the digest of the code that lies there now; errors.SourceInvalid if it cannot be packed."""


class Verb(StrEnum):
    """What became of it."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Step:
    """What a write comes to."""

    verb: Verb
    before: Record | None
    after: Record
    gone: bool = False
    """Whether the object leaves the store with this step."""

    @property
    def new_generation(self) -> bool:
        """Whether the step stores a spec that was not there before."""
        return not self.gone and (self.before is None or self.before.generation != self.after.generation)


def plan(current: Record | None, write: intaking.Write, digests: Digests, now: datetime) -> Step:
    """What ``write`` comes to when ``current`` is stored.  Raises `errors.ModplaneError` when it is refused."""
    _check_kind(write.kind)
    if write.action is intaking.Action.CREATE and current is not None:
        raise errors.AlreadyExists(write.kind, write.name)
    if current is None and write.action not in (intaking.Action.CREATE, intaking.Action.APPLY):
        raise errors.NotFound(write.kind, write.name)
    _check_preconditions(current, write)
    if write.action is intaking.Action.DELETE:
        assert current is not None
        return _deleted(current, now)
    wanted = _applied(current, write, now) if write.action is intaking.Action.APPLY else _updated(current, write, now)
    touches_spec = current is None or "spec" in write.document or wanted.spec != current.spec
    if write.kind == "Module" and touches_spec:
        wanted = _with_digest(current, wanted, digests, now)
    return _settled(current, wanted, now)


def _check_kind(kind: str) -> None:
    if not kinds.BY_NAME[kind].writable:
        raise errors.Invalid(
            [Violation(pointer="/kind", message=f"{kinds.BY_NAME[kind].plural} are written by the control plane only")]
        )


def _check_preconditions(current: Record | None, write: intaking.Write) -> None:
    if write.uid and (current is None or current.uid != write.uid):
        there = "it does not exist" if current is None else f"its uid is {current.uid}"
        raise errors.Conflict(f"{write.kind} {write.name!r}: the uid {write.uid} was asked for, but {there}")
    if write.revision is not None and (current is None or current.revision != write.revision):
        there = "it does not exist" if current is None else f"it stands at {current.revision}"
        raise errors.Conflict(
            f"{write.kind} {write.name!r}: resourceVersion {write.revision} was read, but {there}; "
            "read it again and repeat your change"
        )


def _deleted(current: Record, now: datetime) -> Step:
    if not current.finalizers:
        return Step(Verb.DELETED, current, replace(current, deleted_at=current.deleted_at or now), gone=True)
    if current.deleting:
        return Step(Verb.DELETED, current, current)
    return Step(Verb.DELETED, current, replace(current, deleted_at=now))


def _blank(write: intaking.Write, now: datetime) -> Record:
    finalizers = (names.FINALIZER,) if write.kind == "Module" else ()
    return Record(
        kind=write.kind,
        name=write.name,
        uid=str(uuid.uuid4()),
        generation=0,
        revision=0,
        created_at=now,
        finalizers=finalizers,
    )


def _applied(current: Record | None, write: intaking.Write, now: datetime) -> Record:
    if current is not None and current.deleting and "spec" in write.document:
        raise errors.Conflict(_leaving(current))
    if write.problems and current is None:
        raise errors.Invalid(write.problems)
    base = current or _blank(write, now)
    result = owning.apply(
        _appliable(base),
        base.managed_fields,
        write.document,
        kind=write.kind,
        name=write.name,
        manager=write.manager,
        now=now,
        force=write.force,
    )
    if result.conflicts:
        raise _ownership(write, result.conflicts)
    spec = result.spec
    if current is not None and spec != current.spec:
        spec = _validated(base, result.labels, result.annotations, spec)
    given = write.document["metadata"].get("finalizers") or ()
    return replace(
        base,
        labels=result.labels,
        annotations=result.annotations,
        finalizers=tuple(dict.fromkeys([*base.finalizers, *given])),
        managed_fields=result.managed_fields,
        spec=spec,
    )


def _updated(current: Record | None, write: intaking.Write, now: datetime) -> Record:
    base = current or _blank(write, now)
    document = write.document
    if write.edit is not None:
        document = _edited(base, write.edit(base.document()))
    metadata = document["metadata"]
    desired = owning.Content(
        metadata.get("labels") or {}, metadata.get("annotations") or {}, document.get("spec") or {}
    )
    unset = owning.Content(spec=defaulting.default(base.kind, base.name, {}))
    result = owning.update(
        _content(current) if current is not None else unset,
        base.managed_fields,
        desired,
        kind=write.kind,
        name=write.name,
        manager=write.manager,
        now=now,
    )
    ours = [name for name in base.finalizers if name == names.FINALIZER]
    return replace(
        base,
        labels=result.labels,
        annotations=result.annotations,
        finalizers=tuple(dict.fromkeys([*ours, *(metadata.get("finalizers") or ())])),
        managed_fields=result.managed_fields,
        spec=result.spec,
    )


def _edited(base: Record, edited: Any) -> Json:
    """What a patch made of an object, validated; raises `errors.Invalid`."""
    spec = edited.get("spec") if isinstance(edited, dict) else None
    source = spec.get("source") if isinstance(spec, dict) else None
    inherited = isinstance(source, dict) and source.get("path") == _path(base) and not _names_path(base)
    if inherited:
        edited = {**edited, "spec": {**(spec or {}), "source": _without_path(source or {})}}
    wanted = intaking.intake(intaking.Action.REPLACE, edited, where=(base.kind, base.name))
    _check_preconditions(base, wanted)
    return wanted.document


def _path(record: Record) -> str | None:
    path = (record.spec.get("source") or {}).get("path")
    return path if isinstance(path, str) else None


def _names_path(record: Record) -> bool:
    """Whether somebody asked for the source path; else it follows the entry point."""
    return bool(owning.owners_of(record.managed_fields, PATH_GROUP))


def _without_path(source: Json) -> Json:
    return {key: value for key, value in source.items() if key != "path"}


def _content(record: Record) -> owning.Content:
    return owning.Content(record.labels, record.annotations, record.spec)


def _appliable(record: Record) -> owning.Content:
    """The content, without a source path that nobody asked for."""
    spec = record.spec
    if "source" in spec and not _names_path(record):
        spec = {**spec, "source": _without_path(spec["source"])}
    return owning.Content(record.labels, record.annotations, spec)


def _validated(base: Record, labels: Json, annotations: Json, spec: Json) -> Json:
    """The spec of a merged whole, normalised and full; raises `errors.Invalid`."""
    metadata: Json = {"name": base.name, "labels": labels, "annotations": annotations}
    document = {"apiVersion": names.API_VERSION, "kind": base.kind, "metadata": metadata, "spec": spec}
    normal, problems = validating.validate(document)
    if normal is None or problems:
        raise errors.Invalid(problems)
    return defaulting.default(base.kind, base.name, normal.get("spec") or {})


def _with_digest(current: Record | None, wanted: Record, digests: Digests, now: datetime) -> Record:
    """The code that lies at the source path now, unless a person pinned another; none if none lies there.

    A source that vanished keeps the code that was packed from it; another path does not inherit it.
    """
    owners = owning.owners_of(wanted.managed_fields, owning.DIGEST)
    if set(owners) - {names.MANAGER_DISCOVERY}:
        return wanted
    path, problem = _path(wanted) or "", ""
    try:
        digest = digests(path)
    except errors.SourceInvalid as error:
        digest, problem = None, error.message
    if digest is None and current is not None and _path(current) == path:
        digest = current.spec["source"].get("digest")
    if digest == wanted.spec["source"].get("digest") and bool(owners) is (digest is not None):
        return _source_told(current, wanted, problem, now)
    content, manager = _content(wanted), names.MANAGER_DISCOVERY
    if digest is None:
        source = {key: value for key, value in wanted.spec["source"].items() if key != "digest"}
        bare = replace(content, spec={**wanted.spec, "source": source})
        result = owning.update(
            content, wanted.managed_fields, bare, kind=wanted.kind, name=wanted.name, manager=manager, now=now
        )
    else:
        result = owning.put_digest(content, wanted.managed_fields, digest, manager=manager, now=now)
    wanted = replace(wanted, spec=result.spec, managed_fields=result.managed_fields)
    return _source_told(current, wanted, problem, now)


def _source_told(current: Record | None, wanted: Record, problem: str, now: datetime) -> Record:
    """A new generation says from the start whether its source could be packed; discovery keeps saying so."""
    if current is not None and current.spec == wanted.spec:
        return wanted
    if not problem and not wanted.status:
        return wanted
    status = wanted.status or ModuleStatus().wire()
    listed = [entry for entry in status.get("conditions", ()) if entry.get("type") != conditions.SOURCE_CURRENT]
    if problem:
        told = conditions.condition(
            conditions.SOURCE_CURRENT, False, conditions.SOURCE_INVALID, problem, wanted.generation + 1, now
        )
        listed.append(told.wire())
    elif len(listed) == len(status.get("conditions", ())):
        return wanted
    return replace(wanted, status={**status, "conditions": listed})


def _settled(current: Record | None, wanted: Record, now: datetime) -> Step:
    """The last word: generation, state, and whether anything is to be written at all."""
    if current is None:
        return Step(Verb.CREATED, None, _next_generation(wanted, now))
    wanted = replace(wanted, managed_fields=_quiet(current.managed_fields, wanted.managed_fields))
    if current.deleting:
        return _settled_leaving(current, wanted)
    if wanted == current:
        return Step(Verb.UNCHANGED, current, current)
    if wanted.spec != current.spec:
        wanted = _next_generation(wanted, now)
    return Step(Verb.CONFIGURED, current, wanted)


def _settled_leaving(current: Record, wanted: Record) -> Step:
    """An object on its way out: labels may change and finalizers may go, nothing else."""
    if wanted.spec != current.spec or not set(wanted.finalizers) <= set(current.finalizers):
        raise errors.Conflict(_leaving(current))
    if wanted == current:
        return Step(Verb.UNCHANGED, current, current)
    return Step(Verb.CONFIGURED, current, wanted, gone=not wanted.finalizers)


def _quiet(before: list[Json], after: list[Json]) -> list[Json]:
    """``after`` in which an entry with the same groups keeps its time."""
    known = {(entry.get("manager"), entry.get("operation")): entry for entry in before}
    quiet = []
    for entry in after:
        old = known.get((entry.get("manager"), entry.get("operation")))
        quiet.append(old if old is not None and old.get("fields") == entry.get("fields") else entry)
    return quiet


def _next_generation(record: Record, now: datetime) -> Record:
    generation = record.generation + 1
    if record.kind != "Module":
        return replace(record, generation=generation)
    pending = conditions.condition(
        conditions.VALID,
        ConditionStatus.UNKNOWN,
        "Pending",
        f"generation {generation} waits to be looked at",
        generation,
        now,
    )
    status = record.status or ModuleStatus().wire()
    listed = conditions.put_wire(status.get("conditions", ()), pending)
    status = {**status, "state": ModuleState.DISCOVERED.value, "conditions": listed}
    return replace(record, generation=generation, status=status)


def _leaving(record: Record) -> str:
    return (
        f"{record.kind} {record.name!r} is being deleted (held by {', '.join(record.finalizers) or 'nobody'}); "
        "wait until it is gone, then write it again"
    )


def _ownership(write: intaking.Write, conflicts: dict[str, list[str]]) -> errors.OwnershipConflict:
    listed = "; ".join(f"{group} belongs to {', '.join(owners)}" for group, owners in sorted(conflicts.items()))
    return errors.OwnershipConflict(
        f"{write.kind} {write.name!r}: {listed}; leave these fields out, agree with the owner, or take them with force",
        {group: ", ".join(owners) for group, owners in conflicts.items()},
    )
