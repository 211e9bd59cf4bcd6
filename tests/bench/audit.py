"""What the audit trail costs: on the way of a request, off it in a thread of its own, and what many leave behind.

By CPU time, in one process and one thread: a note is what a request waits for; encoding, hashing and writing to the
spool happen later, in groups.  Called by `tests.bench.auth`.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from dataplane.gateway import auditing
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.serving import RouteName, Target
from schemas.kits import recorders, spools
from schemas.kits.chains import Chain
from schemas.principals import Principal
from tests.bench.tables import median, table
from tests.doubles.asgi import http_scope

ROUNDS = 15
GROUP = 2_000
PARTS = 5
DECISIONS = 250_000
_READ = Requirement("shop", authenticated=True, permissions=(frozenset({"read_analytics"}),))
_ADA = Principal(issuer="https://issuer.example", subject="ada", organisation="acme", expires=4e9)
_HEADERS = {
    "user-agent": "bench",
    "accept": "*/*",
    "authorization": "Bearer x",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


class _Target:
    named = RouteName("shop", "1.0.0", 3, "/items/{item}", str(_READ))


class _Desk:
    """A recorder whose thread does not run: this one does its work, so that each part is measured alone."""

    def __init__(self, folder: Path) -> None:
        made = spools.make(folder / "spool", Chain("w0", "b1"))
        self.recorder = recorders.Recorder(
            lambda: made, auditing.encode, first={}, limit=1 << 40, waiting=DECISIONS, interval=3600
        )
        self.recorder._open()
        self.spool = made
        self.trail = auditing.Trail(self.recorder)
        self.scope = http_scope("GET", "/api/v1/modules/v1/shop/items/1", headers=_HEADERS)
        self.target: Target = _Target()  # type: ignore[assignment]  # what a note reads of a target
        self.verdict = Verdict(200, "Allowed", principal=_ADA)

    def note(self) -> None:
        for _ in range(GROUP):
            self.trail.decided(self.scope, self.target, self.verdict)

    def write(self) -> None:
        self.recorder._write(ending=False)

    def send(self) -> int:
        """Take all out, as the carrier does; how many bytes."""
        total = 0
        while (found := self.spool.oldest()) is not None:
            total += len(found[1])
            self.spool.drop(found[0])
        return total


def run(folder: Path) -> str:
    """The tables."""
    desk = _Desk(folder)
    noted, written, sent, size = [], [], [], 0
    for _ in range(ROUNDS):
        noted.append(_cpu(desk.note))
        written.append(_cpu(desk.write))
        sizes: list[int] = []
        sent.append(_cpu(lambda: sizes.append(desk.send())))  # noqa: B023
        size = sizes[0]
    rows = [
        ("noted, on the way of the request", f"{median(noted):.2f}", ""),
        ("encoded, chained, written, in the thread", f"{median(written):.2f}", f"{size / GROUP:.0f}"),
        ("read and dropped once NATS has it", f"{median(sent):.2f}", ""),
    ]
    title = f"The audit record of a decision: medians of {ROUNDS} rounds of {GROUP}"
    return table(title, ("step", "CPU µs", "bytes"), rows) + _what_grows(desk)


def _what_grows(desk: _Desk) -> str:
    process, rows = psutil.Process(), []
    for part in range(PARTS):
        for _ in range(DECISIONS // PARTS // GROUP):
            desk.note()
            desk.write()
            desk.send()
        gc.collect()
        memory = process.memory_info().rss / 2**20
        rows.append((f"{(part + 1) * DECISIONS // PARTS:,}", f"{memory:.1f}", desk.spool.path.stat().st_size // 1024))
    title = "Audit records, each sent once it is written"
    return table(title, ("records", "resident MiB", "spool KiB"), rows)


def _cpu(way: Callable[[], object]) -> float:
    started = time.process_time()
    way()
    return (time.process_time() - started) / GROUP * 1e6
