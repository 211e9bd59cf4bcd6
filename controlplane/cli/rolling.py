"""Replaces workers one at a time, so that nobody outside notices.

For each slot: start a second process under the same id → wait until it says ready → ask the old one to drain and wait
for its exit → next slot.  A successor that does not become ready in time is ended, the old one keeps serving, and the
rest of the round is given up.  Asked by SIGHUP, by a worker that wants to be recycled, and when another host version is
installed than the one a worker runs on.  Driven by `controlplane.cli.supervising`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from controlplane.cli import children
from schemas.kits import versions

DEADLINE_SECONDS: Final = 60.0
"""How long a successor may take until it is ready."""
AGAIN_SECONDS: Final = 60.0
"""After how long a worker that asked to be recycled gets another chance, when its successor failed."""
LOOK_SECONDS: Final = 5.0
"""How often the installed versions are compared with those that the workers run on."""


@dataclass
class Roller:
    """The workers of one `up`, and who of them is to be replaced."""

    workers: list[children.Child]
    """By slot; a replaced one gives its place to its successor."""
    start: Callable[[children.Plan, Sequence[str]], children.Child]
    """Starts a process of the plan, with some more words at its first start, and keeps it."""
    retire: Callable[[children.Child], None]
    """Forgets a process that has ended for good."""
    told: Callable[[str], None]
    moved: Callable[[], None]
    """Called when a slot has another address."""
    deadline: float = DEADLINE_SECONDS
    look: float = LOOK_SECONDS
    again: float = AGAIN_SECONDS
    installed: Callable[[], str] = versions.host_version
    _recycling: dict[int, str] = field(default_factory=dict)
    _wished: list[int] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def wish(self, slots: Collection[int], why: str) -> None:
        """Replace these, in their order, after those that are to be replaced already."""
        fresh = [slot for slot in slots if slot not in self._wished]
        if fresh:
            names = ", ".join(self.workers[slot].plan.name for slot in fresh)
            self.told(f"{why}: replacing {names}{', one after the other' if len(fresh) > 1 else ''}")
            self._wished += fresh
            self._news.set()

    def wish_all(self, why: str) -> None:
        """Replace every worker."""
        self.wish(range(len(self.workers)), why)

    def recycle(self, slot: int, reason: str) -> None:
        """Replace a worker that asks for it; it asks once, so it is tried until it succeeds."""
        self._recycling[slot] = reason
        self.wish([slot], f"{self.workers[slot].plan.name} wants to be recycled ({reason})")

    async def run(self) -> None:
        """Replace who is to be replaced, until cancelled."""
        watching = asyncio.create_task(self._watch_host(), name="host version")
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._round()
        finally:
            watching.cancel()

    async def _round(self) -> None:
        count = 0
        while self._wished:
            slot = self._wished.pop(0)
            if not await self._replace(slot):
                left = [self.workers[other].plan.name for other in self._wished]
                if left:
                    self.told(f"the restart is given up; not replaced either: {', '.join(left)}")
                self._wished.clear()
                if slot in self._recycling:
                    asyncio.get_running_loop().call_later(self.again, self.recycle, slot, self._recycling[slot])
                return
            self._recycling.pop(slot, None)
            count += 1
        self.told(f"{count} worker{' was' if count == 1 else 's were'} replaced")

    async def _replace(self, slot: int) -> bool:
        old = self.workers[slot]
        name, boot = old.plan.name, str(old.facts.get("boot", ""))
        new = self.start(old.plan, ("--replaces", boot) if boot else ())
        problem = ""
        try:
            await asyncio.wait_for(asyncio.shield(new.ready), self.deadline)
        except TimeoutError:
            problem = f"was not ready within {self.deadline:.0f} s (log: {new.log})"
        except children.FailedError as error:
            problem = str(error)
        if problem:
            self.told(f"the old {name} keeps serving, since its successor failed: {problem}")
            new.kill()
            await new.end()
            self.retire(new)
            return False
        new.on_recycle = old.on_recycle
        old.on_recycle = lambda _: None
        self.workers[slot] = new
        self.moved()
        await old.end()
        self.retire(old)
        return True

    async def _watch_host(self) -> None:
        """A version that is seen twice is installed, not being installed; each one is tried once."""
        tried, before = "", ""
        while True:
            await asyncio.sleep(self.look)
            now = await asyncio.to_thread(self.installed)
            running = [str(worker.facts.get("hostVersion", "")) for worker in self.workers]
            behind = [slot for slot, version in enumerate(running) if version not in ("", now)]
            if behind and now == before and now != tried:
                tried = now
                changed = versions.changes(running[behind[0]], now)
                self.wish(behind, f"installed versions changed ({changed}; the control plane follows when up restarts)")
            before = now
