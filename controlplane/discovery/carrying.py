"""Carries out what a scan means for the modules that are stored: follows code, deletes, notes.

Always holds: every write is fenced and goes only to the module that was read; if one of them was edited meanwhile, it
is thought about anew.  Called by `controlplane.discovery.discovering`; `concluding` decides.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from controlplane import errors, intaking, writing
from controlplane.discovery import concluding, looking, newcomers, noting, results, sources
from controlplane.discovery.scanning import Failure
from controlplane.store import stores
from schemas import names
from schemas.kits.clocks import Clock
from schemas.meta import Json

logger = structlog.get_logger("controlplane.discovery.carrying")

BATCH: Final = 200
"""Modules per transaction, so that other writers get their turn."""
AGAIN: Final = 1.0
"""Seconds until what failed for a passing reason is tried again."""

_ROUNDS: Final = 3


class Carrier:
    """Brings stored modules in line with what lies in the modules path."""

    def __init__(
        self,
        store: stores.Store,
        clock: Clock,
        writer: writing.Writer,
        source: sources.Sources,
        news: newcomers.Newcomers,
        epoch: Callable[[], int] | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._writer = writer
        self._sources = source
        self._newcomers = news
        self._epoch = epoch
        self._absent: dict[str, float] = {}
        self.wake: Callable[[str], None] = lambda name: None
        """Told of a module whose Valid depends on what was found."""

    async def carry_out(
        self,
        read: Sequence[concluding.Known] | None,
        found: dict[str, sources.Found],
        root: looking.Root,
        result: results.Result,
        *,
        prune: bool,
        patience: float,
    ) -> None:
        """Conclude over the modules that were ``read`` (None: they are read now) and what was ``found``; do it."""
        for _ in range(_ROUNDS):
            modules = await self._store.read(noting.known) if read is None else read
            found |= await self._sources.find({module.path for module in modules} - found.keys())
            absent = self._absent_for(modules, found)
            conclusion = await asyncio.to_thread(
                concluding.conclude, modules, found, root, prune=prune, absent=absent, patience=patience
            )
            known = {module.name: module for module in modules}
            as_read = await self._write(conclusion, known, result)
            await self._note(conclusion.notes, known)
            if as_read:
                break
            read = None
        else:
            result.look_again(AGAIN)
        result.pinned, result.missing = conclusion.pinned, conclusion.missing
        result.prunable, result.held = conclusion.prunable, conclusion.held
        if conclusion.waits:
            result.look_again(patience / 2)

    def _absent_for(self, modules: Iterable[concluding.Known], found: Mapping[str, sources.Found]) -> dict[str, float]:
        """For how many seconds the code of each module has been gone."""
        now = self._clock.monotonic()
        gone = [each.uid for each in modules if not (found[each.path].digest or found[each.path].problem)]
        self._absent = {uid: self._absent.get(uid, now) for uid in gone}
        return {uid: now - since for uid, since in self._absent.items()}

    async def _write(
        self, conclusion: concluding.Conclusion, modules: Mapping[str, concluding.Known], result: results.Result
    ) -> bool:
        """Follow and delete; whether every module was as it was read."""
        writes = [_following(modules[name], digest) for name, digest in conclusion.follow.items()]
        writes += [_deleting(module) for module in conclusion.delete]
        as_read = True
        for start in range(0, len(writes), BATCH):
            batch = writes[start : start + BATCH]
            outcomes = await self._writer.write(batch, reason="its code in the modules path changed or went")
            for write, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome.error, errors.Conflict | errors.NotFound):
                    as_read = False
                else:
                    self._written(modules[write.name], write, outcome, result)
        return as_read

    def _written(
        self, module: concluding.Known, write: intaking.Write, outcome: writing.Outcome, result: results.Result
    ) -> None:
        if outcome.error is not None:
            result.failed.append(Failure(module.path, f"{module.name}: {outcome.error.message}"))
        elif write.action is intaking.Action.DELETE:
            logger.info("module deleted, its code is gone", module=module.name, path=module.path)
            result.deleted.append(module.name)
            self._newcomers.dropped(module.uid)
        else:
            result.updated.append(module.name)

    async def _note(self, notes: Mapping[str, concluding.Note | None], modules: Mapping[str, concluding.Known]) -> None:
        uids = {name: modules[name].uid for name in notes}
        listed = list(notes.items())
        for start in range(0, len(listed), BATCH):
            batch = dict(listed[start : start + BATCH])
            await self._store.write(
                lambda tx, batch=batch: noting.note(tx, batch, uids),  # type: ignore[misc]
                epoch=None if self._epoch is None else self._epoch(),
            )
        for name, told in listed:
            if told is not None:
                logger.warning("module does not follow its code", module=name, reason=told.reason, message=told.message)
            if modules[name].digest is None:
                self.wake(name)


def _following(module: concluding.Known, digest: str) -> intaking.Write:
    """Take new code."""

    def change(document: Json) -> Json:
        source = {**(document["spec"].get("source") or {}), "digest": digest}
        return {**document, "spec": {**document["spec"], "source": source}}

    return _write(intaking.Action.PATCH, module, change)


def _deleting(module: concluding.Known) -> intaking.Write:
    """Ask for deletion."""
    return _write(intaking.Action.DELETE, module)


def _write(
    action: intaking.Action, module: concluding.Known, edit: Callable[[Json], Json] | None = None
) -> intaking.Write:
    return intaking.Write(
        action,
        "Module",
        module.name,
        edit=edit,
        manager=names.MANAGER_DISCOVERY,
        uid=module.uid,
        revision=module.revision,
    )
