"""The command line in this process against the real API, whose server runs in a thread of its own.

The reconciler is played by the test: `Desk.report` writes a status as it would.
"""

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from controlplane.cli import endpoints, main
from controlplane.store.transactions import Transaction
from schemas.kits.clocks import SystemClock
from schemas.meta import Json, now_text
from tests.doubles import apiparts, apiserver

T = TypeVar("T")


@dataclasses.dataclass
class Said:
    """What one command left behind."""

    code: int
    out: str
    err: str


class Desk:
    """A running API and a person who types."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.url = ""
        self.parts: apiparts.Parts
        self._capsys = capsys
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.run(self._open())

    def stop(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(body, self._loop).result(30)

    async def _open(self) -> None:
        self.parts = await self._stack.enter_async_context(apiparts.running(self.home, SystemClock()))
        served = await self._stack.enter_async_context(apiserver.serving(self.parts.api))
        self.url = served.url
        found = endpoints.Endpoints(served.url, "http://127.0.0.1:8000", "nats://127.0.0.1:4222", ("http://x",))
        endpoints.write(self.home, found)

    def type(self, *words: str, code: int = 0) -> Said:
        """Type ``modplane words…`` and read the answer."""
        self._capsys.readouterr()
        ended = main.run([*words, *self._where(words[0])])
        out, err = self._capsys.readouterr()
        assert ended == code, f"{words} ended with {ended}\n{out}\n{err}"
        return Said(ended, out, err)

    def file(self, text: str, name: str = "m.yaml") -> str:
        path = self.home / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    def report(self, name: str, state: str, *conditions: tuple[str, str, str, str], **more: Any) -> None:
        """Write a Module's status; a condition is (type, status, reason, message)."""

        def unit(tx: Transaction) -> None:
            record = tx.get("Module", name)
            assert record is not None
            listed = [
                {
                    "type": kind, "status": status, "reason": reason, "message": message,
                    "observedGeneration": record.generation, "lastTransitionTime": now_text(tx.now),
                }
                for kind, status, reason, message in conditions
            ]  # fmt: skip
            status = {"state": state, "observedGeneration": record.generation, "conditions": listed, **more}
            moved = tx.put(dataclasses.replace(record, status=status))
            tx.transition(moved, state, "Test", f"now {state}", from_=record.status.get("state"))

        self.run(self.parts.store.write(unit))

    def finish(self, name: str) -> None:
        """Take the finalizers away, as the reconciler does when the routes are gone."""

        def unit(tx: Transaction) -> None:
            record = tx.get("Module", name)
            assert record is not None
            tx.remove(record)

        self.run(self.parts.store.write(unit))

    def later(self, when: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
        """Do something from another thread as soon as ``when`` holds."""

        def run() -> None:
            pause = threading.Event()
            while not when():
                pause.wait(0.01)
            act()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def stored(self, name: str) -> Json | None:
        """A Module as it is stored."""
        found = self.run(self.parts.store.read(lambda reading: reading.get("Module", name)))
        return found.document() if found else None

    def _where(self, verb: str) -> list[str]:
        return [] if verb in ("validate", "version", "-h", "--help") else ["--data-dir", str(self.home)]


@contextmanager
def opened(home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    desk = Desk(home, capsys)
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()
