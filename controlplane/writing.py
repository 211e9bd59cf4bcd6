"""The one write path: whoever wants an object changed, a program, a person's SQL row or discovery, comes through here.

    documents ──intake──▶ Writes ──plan──▶ Steps ──one transaction──▶ Outcomes

Always holds: one call is one transaction; a refused item of a list stores nothing and holds up no other; a dry run
takes the same steps over a reading and writes nothing; a new generation of a Module is DISCOVERED, with its event,
in the transaction that stores it.  Called by `controlplane.api` and `controlplane.discovery`; the store's listeners
(`controlplane.reconcile`) carry on from the commit.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias

import structlog

from controlplane import errors, intaking, needing, planning
from controlplane.admission import merging
from controlplane.store import stores, transactions
from controlplane.store.records import Record
from controlplane.telemetry import tracing
from schemas.kits.clocks import Clock
from schemas.meta import Json
from schemas.module import ModuleState
from schemas.problems import Violation

logger = structlog.get_logger("controlplane.writing")

BULK: Final = 8
"""From how many documents on they are validated in a thread, so that the event loop goes on serving."""

_ROUNDS: Final = 4
_BEHIND: Final = 4
"""Turns of the event loop by which an answer stays behind those who pass a commit on to the workers."""
_BEHIND_SECONDS: Final = 0.005
"""By how long it does where workers are told of a single module at once: on few cores they take the change in without
the work of the answer beside them, which costs them 1.4 ms else."""


Digest: TypeAlias = str | errors.SourceInvalid | None
"""Of a packed source; None: nothing is there; the error: something is there that cannot be packed."""


class SourceResolver(Protocol):
    """Who knows what code lies where."""

    async def resolve_all(self, paths: Collection[str]) -> Mapping[str, Digest]:
        """The digest of what lies at each path below the modules path, packed anew if it changed."""
        ...


Forward = Callable[[transactions.Transaction, Record], Record]
"""Brings a module that the transaction has just stored forward; the record as it is stored afterwards."""


def _nobody_listens(write: intaking.Write, outcome: "Outcome") -> None:
    """Who asked tells by itself what became of it."""


def _nobody_leads() -> Forward | None:
    """Until the wiring says otherwise, new generations are left to whoever leads."""
    return None


class Seeing(needing.Seeing, Protocol):
    """What planning reads: a transaction or a reading."""

    def get(self, kind: str, name: str) -> Record | None:
        """The object of that kind and name."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item."""

    verb: str
    """``created``, ``configured``, ``unchanged``, ``refused`` or ``deleted``."""
    record: Record | None
    """The object as it is now stored (dry run: as it would be); None when refused."""
    error: errors.ModplaneError | None = None
    gone: bool = False
    """Whether the object left the store at once."""


Also: TypeAlias = Callable[[transactions.Transaction, Sequence[Outcome]], None]
"""What belongs into the transaction of some writes, beside them; pure over it, as it may run twice."""


class Writer:
    """Applies, creates, replaces, patches and deletes objects.

    ``epoch``: under which every write is fenced, for those who write as the leader.
    """

    def __init__(
        self,
        store: stores.Store,
        clock: Clock,
        sources: SourceResolver | None = None,
        *,
        epoch: Callable[[], int] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sources = sources
        self._epoch = epoch
        self.forward: Callable[[], Forward | None] = _nobody_leads
        """Asked before each small write for what brings new generations forward in the same transaction."""
        self.wrote: Callable[[intaking.Write, Outcome], None] = _nobody_listens
        """Told of each item that was asked for, once it is stored or refused."""

    async def apply(
        self,
        documents: Sequence[Json],
        *,
        manager: str,
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
        where: tuple[str, str] | None = None,
    ) -> list[Outcome]:
        """Server-side apply of every document in one transaction; an answer per item, refusals included."""

        def take() -> list[intaking.Write | errors.ModplaneError]:
            return _without_doubles([_taken(document, manager, force, where) for document in documents])

        taken = await asyncio.to_thread(take) if len(documents) >= BULK else take()
        return await self._run(taken, dry_run=dry_run, reason=reason)

    async def create(
        self, document: Json, *, manager: str, dry_run: bool = False, reason: str = "", kind: str | None = None
    ) -> Outcome:
        """A new object; raises `errors.AlreadyExists` when the name is taken."""
        where = (kind, "") if kind else None
        write = intaking.intake(intaking.Action.CREATE, document, manager=manager, where=where)
        return await self._one(write, dry_run=dry_run, reason=reason)

    async def replace(
        self,
        document: Json,
        *,
        manager: str,
        dry_run: bool = False,
        reason: str = "",
        where: tuple[str, str] | None = None,
    ) -> Outcome:
        """The whole object anew; with a ``resourceVersion`` only if it still stands there (`errors.Conflict`)."""
        write = intaking.intake(intaking.Action.REPLACE, document, manager=manager, where=where)
        return await self._one(write, dry_run=dry_run, reason=reason)

    async def merge_patch(
        self, kind: str, name: str, patch: Json, *, manager: str, dry_run: bool = False, reason: str = ""
    ) -> Outcome:
        """RFC 7386 over the present object."""
        return await self.edit(
            kind,
            name,
            lambda document: merging.merge_patch(document, patch),
            manager=manager,
            dry_run=dry_run,
            reason=reason,
        )

    async def edit(
        self,
        kind: str,
        name: str,
        change: Callable[[Json], Any],
        *,
        manager: str,
        dry_run: bool = False,
        reason: str = "",
    ) -> Outcome:
        """``change`` (pure) over the present object, inside the transaction."""
        write = intaking.Write(intaking.Action.PATCH, kind, name, edit=change, manager=manager)
        return await self._one(write, dry_run=dry_run, reason=reason)

    async def delete(
        self,
        kind: str,
        name: str,
        *,
        uid: str = "",
        revision: int | None = None,
        manager: str = "",
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
    ) -> Outcome:
        """Ask for deletion: at once without finalizers, else when the last of them is gone.

        errors.StillNeeded: others ask for it; not if ``force``.
        """
        write = intaking.Write(
            intaking.Action.DELETE, kind, name, manager=manager, force=force, uid=uid, revision=revision
        )
        return await self._one(write, dry_run=dry_run, reason=reason)

    async def write(
        self, writes: Sequence[intaking.Write], *, reason: str = "", also: Also | None = None
    ) -> list[Outcome]:
        """Writes that were taken in already, in one transaction, with what ``also`` does with their outcomes."""
        return await self._run(writes, dry_run=False, reason=reason, also=also)

    async def _one(self, write: intaking.Write, *, dry_run: bool, reason: str) -> Outcome:
        (outcome,) = await self._run([write], dry_run=dry_run, reason=reason)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    async def _run(
        self,
        writes: Sequence[intaking.Write | errors.ModplaneError],
        *,
        dry_run: bool,
        reason: str,
        also: Also | None = None,
    ) -> list[Outcome]:
        def unit(tx: transactions.Transaction) -> list[Outcome]:
            outcomes = _carry_out(tx, writes, sources, reason, forward)
            if also is not None and not sources.missing:
                also(tx, outcomes)
            return outcomes

        async def attempt() -> list[Outcome]:
            if dry_run:
                return await self._store.read(lambda reading: _foresee(reading, writes, sources, self._clock.now()))
            with tracing.begin_unless("write"):
                return await self._store.write(unit, epoch=None if self._epoch is None else self._epoch())

        sources = _Sources()
        await self._resolve(sources, _paths(writes))
        forward = self.forward() if len(writes) < BULK else None
        for _ in range(_ROUNDS):
            sources.missing.clear()
            outcomes = await attempt()
            if not sources.missing:
                if not dry_run:
                    await _stay_behind(telling=forward is not None and any(map(_goes_forward, outcomes)))
                    _tell(outcomes)
                    for write, outcome in zip(writes, outcomes, strict=True):
                        if isinstance(write, intaking.Write):
                            self.wrote(write, outcome)
                return outcomes
            await self._resolve(sources, sources.missing)
        raise errors.Conflict("the source paths kept changing while they were read; try again")

    async def _resolve(self, sources: "_Sources", paths: Iterable[str]) -> None:
        asked = sorted(set(paths))
        if self._sources is None:
            sources.known.update(dict.fromkeys(asked))
        elif asked:
            sources.known.update(await self._sources.resolve_all(asked))


class _Sources:
    """Digests that were looked up before the transaction; what it asks for in vain is looked up for the next try."""

    def __init__(self) -> None:
        self.known: dict[str, Digest] = {}
        self.missing: set[str] = set()

    def __call__(self, path: str) -> str | None:
        if path not in self.known:
            self.missing.add(path)
        known = self.known.get(path)
        if isinstance(known, errors.SourceInvalid):
            raise known
        return known


def _taken(
    document: Any, manager: str, force: bool, where: tuple[str, str] | None
) -> intaking.Write | errors.ModplaneError:
    try:
        return intaking.intake(intaking.Action.APPLY, document, manager=manager, force=force, where=where)
    except errors.ModplaneError as error:
        return error


def _without_doubles(
    taken: list[intaking.Write | errors.ModplaneError],
) -> list[intaking.Write | errors.ModplaneError]:
    """The list in which only the first of several items for one object is left."""
    seen: dict[tuple[str, str], int] = {}
    result: list[intaking.Write | errors.ModplaneError] = []
    for index, item in enumerate(taken):
        if isinstance(item, intaking.Write):
            first = seen.setdefault((item.kind, item.name), index)
            if first != index:
                message = f"item {first + 1} of this list is {item.kind} {item.name!r} already; keep one of the two"
                double = Violation(pointer="/metadata/name", message=message, reason="FieldValueDuplicate")
                result.append(errors.Invalid([double]))
                continue
        result.append(item)
    return result


def _paths(writes: Iterable[intaking.Write | errors.ModplaneError]) -> set[str]:
    """The source paths that documents name by themselves; the rest shows in the transaction."""
    paths = set()
    for write in writes:
        if isinstance(write, intaking.Write) and write.kind == "Module":
            spec = write.document.get("spec")
            source = spec.get("source") if isinstance(spec, dict) else None
            entry = spec.get("entryPoint") if isinstance(spec, dict) else None
            path = source.get("path") if isinstance(source, dict) else None
            if not path and isinstance(entry, str):
                path = entry.partition(":")[0].partition(".")[0]
            if isinstance(path, str) and path:
                paths.add(path)
    return paths


def _planned(
    seeing: Seeing, writes: Sequence[intaking.Write | errors.ModplaneError], sources: _Sources, now: datetime
) -> list[planning.Step | errors.ModplaneError]:
    steps: list[planning.Step | errors.ModplaneError] = []
    for write in writes:
        if isinstance(write, errors.ModplaneError):
            steps.append(write)
            continue
        try:
            steps.append(_step(seeing, write, sources, now))
        except errors.ModplaneError as error:
            steps.append(error)
    return steps


def _step(seeing: Seeing, write: intaking.Write, sources: _Sources, now: datetime) -> planning.Step:
    step = planning.plan(seeing.get(write.kind, write.name), write, sources, now)
    if write.action is intaking.Action.DELETE and write.kind == "FeatureFlag" and not write.force:
        needing.check_flag(seeing, write.name)
    return step


def _foresee(
    seeing: Seeing, writes: Sequence[intaking.Write | errors.ModplaneError], sources: _Sources, now: datetime
) -> list[Outcome]:
    return [
        Outcome(planning.Verb.REFUSED.value, None, step)
        if isinstance(step, errors.ModplaneError)
        else Outcome(step.verb.value, step.after, gone=step.gone)
        for step in _planned(seeing, writes, sources, now)
    ]


def _carry_out(
    tx: transactions.Transaction,
    writes: Sequence[intaking.Write | errors.ModplaneError],
    sources: _Sources,
    reason: str,
    forward: Forward | None,
) -> list[Outcome]:
    steps = _planned(tx, writes, sources, tx.now)
    if sources.missing:
        return []
    outcomes = []
    for write, step in zip(writes, steps, strict=True):
        if isinstance(step, errors.ModplaneError):
            outcomes.append(Outcome(planning.Verb.REFUSED.value, None, step))
            continue
        assert isinstance(write, intaking.Write)
        try:
            outcomes.append(Outcome(step.verb.value, _stored(tx, write, step, reason, forward), gone=step.gone))
        except errors.ModplaneError as error:
            outcomes.append(Outcome(planning.Verb.REFUSED.value, None, error))
    return outcomes


def _stored(
    tx: transactions.Transaction, write: intaking.Write, step: planning.Step, reason: str, forward: Forward | None
) -> Record:
    """Store a step; what the store itself refuses (a pair that is taken) is refused before it wrote anything."""
    if step.gone:
        assert step.before is not None
        return tx.remove(replace(step.after, revision=step.before.revision))
    if step.after is step.before:
        return step.after
    record = tx.put(step.after, manager=write.manager, reason=reason)
    if step.new_generation and record.kind == "Module":
        before = step.before.status.get("state") if step.before is not None else None
        what = "Created" if step.before is None else "Changed"
        message = f"generation {record.generation}, written by {write.manager or 'nobody named'}"
        tx.transition(record, ModuleState.DISCOVERED.value, what, message, from_=before)
        if forward is not None:
            return forward(tx, record)
    return record


def _goes_forward(outcome: Outcome) -> bool:
    """Whether workers were told of a module in the commit that stored it; of one whose code is inspected, not yet."""
    record = outcome.record
    if record is None or record.kind != "Module" or outcome.verb == planning.Verb.UNCHANGED.value:
        return False
    return record.status.get("state") == ModuleState.REGISTERED.value


async def _stay_behind(*, telling: bool) -> None:
    if telling:
        await asyncio.sleep(_BEHIND_SECONDS)
        return
    for _ in range(_BEHIND):
        await asyncio.sleep(0)


def _tell(outcomes: Sequence[Outcome]) -> None:
    written = [outcome for outcome in outcomes if outcome.record and outcome.verb != planning.Verb.UNCHANGED.value]
    if len(written) >= BULK:
        logger.info("objects written", written=len(written), of=len(outcomes))
        return
    for outcome in written:
        assert outcome.record is not None
        record = outcome.record
        logger.info(
            "object written",
            verb=outcome.verb,
            kind=record.kind,
            name=record.name,
            generation=record.generation,
            revision=record.revision,
        )
