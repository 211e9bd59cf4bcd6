"""Tells the control plane what was counted, off the way of requests: what changed, every second.

    meters, accesses ──copied, encoded here──▶ modplane.metrics.<worker> ──kept by JetStream──▶ control plane

Always: what is told are sums since the start of this boot, so a message that is lost is made good by the next one that
names its series, and one that is repeated adds nothing.  A series counts as told when JetStream has stored it; every
minute each is told again, changed or not, in case the stream was lost.  What cannot be told at the end is left in a
file, which the next boot of this slot tells first.  A worker that is killed takes along what it had not told: at most a
second of counts, while NATS is there.

Runs on the agent's loop; called by `dataplane.agent.living`.
"""

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError

from dataplane.gateway.counting import Accesses, Pair
from dataplane.telemetry import meters
from schemas import names
from schemas.kits import sketches
from schemas.kits.clocks import Clock
from schemas.kits.natslink import LinkError, NatsLink, Session
from schemas.kits.storing import Storing
from schemas.measures import CHUNK_BYTES, Measures

logger = structlog.get_logger("dataplane.agent.counting")

INTERVAL_SECONDS: Final = 1.0
AGAIN_ROUNDS: Final = 60
"""In so many rounds each series is told at least once."""
ACCESS_ROUNDS: Final = 5
"""How often organisations' calls are told: they end in rows of the store."""
_LOOK_ROUNDS: Final = 5
"""How often it is looked whether series have gone."""
_SEND_SECONDS: Final = 2.0
_LAST_SECONDS: Final = 1.0
"""How long the last calls are waited for, and the last words may take."""
_STEP_SECONDS: Final = 0.02
_MARGIN: Final = 512
"""Bytes of a message around its series."""
_TOGETHER: Final = 8
"""So many series are encoded at once, in half the time of one by one; all of them fit into a message."""


class Counted(Protocol):
    """What is counted on the serving loop."""

    @property
    def accesses(self) -> Accesses:
        """How often organisations were let in."""
        ...

    @property
    def book(self) -> meters.Book:
        """Every series."""
        ...

    def counting(self) -> set[int]:
        """The numbers of the series in which somebody may still count."""
        ...


Told = dict[int | Pair, tuple[int, int]]
"""What was last told of each series: calls, and how many were under way."""
_Entry = tuple[int | Pair, tuple[int, int], dict[str, Any]]
"""One series: what names it, what was read of it, and what is told."""


class Teller:
    """Tells the counts of one boot."""

    def __init__(
        self,
        link: NatsLink,
        clock: Clock,
        counted: Counted,
        storage: Storing,
        *,
        worker: str,
        boot: str,
        file: Path,
    ) -> None:
        """``file``: where counts are left that could not be told."""
        self._link = link
        self._storage = storage
        self._clock = clock
        self._counted = counted
        self._subject = names.metrics_subject(worker)
        self._worker = worker
        self._boot = boot
        self._file = file
        self._sequence = itertools.count(1)
        self._round = 0
        self._told: Told = {}
        self._suspects: set[int] = set()
        self._left = self._recalled()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            due = self._clock.monotonic() + INTERVAL_SECONDS
            await self.tell()
            await self._clock.sleep(max(due - self._clock.monotonic(), 0.0))

    async def tell(self, *, deadline: float = _SEND_SECONDS, last: bool = False) -> bool:
        """Tell what is left of earlier boots and what changed in this one; False if something did not get through."""
        while self._left:
            if not await self._send(self._left[0], deadline):
                return False
            self._left.pop(0)
            if not self._left:
                self._file.unlink(missing_ok=True)
        for body, told in self._messages(last=last):
            if not await self._send(body, deadline):
                return False
            self._told.update(told)
        self._round += 1
        if self._round % _LOOK_ROUNDS == 0:
            self._forget_gone()
        return True

    async def finish(self) -> None:
        """Tell once more, after the last request; what does not get through is left for the next boot."""
        waited = 0.0
        while waited < _LAST_SECONDS and any(meter.inside for meter in self._counted.book.live()):
            await self._clock.sleep(_STEP_SECONDS)
            waited += _STEP_SECONDS
        if await self.tell(deadline=_LAST_SECONDS, last=True):
            return
        left = [*self._left, *(body for body, _ in self._messages(last=True))]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(b"\n".join(left))
        except OSError as error:
            logger.warning("calls not counted", error=str(error), messages=len(left))

    def _messages(self, *, last: bool) -> Iterator[tuple[bytes, Told]]:
        """What is to be told now, in pieces, and what is told with each."""
        routes, accesses, told, size = list[bytes](), list[bytes](), Told(), _MARGIN
        for texts, entries in (routes, self._routes()), (accesses, self._accesses(last)):
            while some := list(itertools.islice(entries, _TOGETHER)):
                text = orjson.dumps([entry for _, _, entry in some])[1:-1]
                if size + len(text) > CHUNK_BYTES:
                    yield self._message(routes, accesses), told
                    told, size = {}, _MARGIN
                    routes.clear()
                    accesses.clear()
                texts.append(text)
                told.update((key, now) for key, now, _ in some)
                size += len(text) + 1
        if told:
            yield self._message(routes, accesses), told

    def _routes(self) -> Iterator[_Entry]:
        due = self._round % AGAIN_ROUNDS
        for meter in self._counted.book.live():
            now = (meter.calls, meter.inside)
            known = self._told.get(meter.number)
            if known != now or meter.number % AGAIN_ROUNDS == due:
                yield meter.number, now, self._route(meter, *now)

    def _accesses(self, last: bool) -> Iterator[_Entry]:
        if self._round % ACCESS_ROUNDS and not last:
            return
        due = self._round // ACCESS_ROUNDS % AGAIN_ROUNDS
        for place, (pair, (count, at)) in enumerate(self._counted.accesses.told().items()):
            if self._told.get(pair) != (count, 0) or place % AGAIN_ROUNDS == due:
                yield pair, (count, 0), {"organisation": pair[0], "module": pair[1], "calls": count, "last": at}

    def _route(self, meter: meters.Meter, calls: int, inside: int) -> dict[str, Any]:
        _, client_errors, server_errors, refused, timeouts = meter.outcomes
        return {
            "number": meter.number,
            "module": meter.of.module,
            "uid": meter.of.uid,
            "version": meter.of.version,
            "method": meter.method,
            "route": meter.route,
            "calls": calls,
            "clientErrors": client_errors,
            "serverErrors": server_errors,
            "refused": refused,
            "timeouts": timeouts,
            "seconds": meter.seconds,
            "received": meter.received,
            "sent": meter.sent,
            "last": meters.time_of(meter.last) if calls else 0.0,
            "inside": max(inside, 0),
            "durations": sketches.text(meter.buckets),
        }

    def _message(self, routes: Iterable[bytes], accesses: Iterable[bytes]) -> bytes:
        head = orjson.dumps(
            {
                "worker": self._worker,
                "boot": self._boot,
                "sequence": next(self._sequence),
                "at": meters.time_of(time.monotonic()),
            }
        )
        return b'%b,"routes":[%b],"accesses":[%b]}' % (head[:-1], b",".join(routes), b",".join(accesses))

    def _forget_gone(self) -> None:
        """Let go of series in which nobody can count any more, once two looks agree and all of it is told."""
        live = self._counted.book.live()
        counting = self._counted.counting()
        gone = {meter.number for meter in live if meter.number not in counting and not meter.inside}
        done = [
            meter.number
            for meter in live
            if meter.number in gone & self._suspects and self._told.get(meter.number) == (meter.calls, 0)
        ]
        self._suspects = gone
        self._counted.book.strike(done)
        for number in done:
            self._told.pop(number, None)

    async def _send(self, body: bytes, deadline: float) -> bool:
        async def publish(session: Session) -> None:
            await session.js.publish(self._subject, body, stream=names.STREAM_METRICS, timeout=deadline * 2)

        try:
            with self._storage.write(names.STREAM_METRICS):
                await self._link.call(publish, deadline=deadline)
        except (NatsError, LinkError, TimeoutError, OSError) as error:
            logger.debug("counts not told yet", error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _recalled(self) -> list[bytes]:
        """What an earlier boot left."""
        try:
            left = self._file.read_bytes().split(b"\n")
            for each in left:
                Measures.model_validate_json(each)
        except FileNotFoundError:
            return []
        except (OSError, ValidationError) as error:
            logger.warning("counts of an earlier boot are lost", path=str(self._file), error=str(error)[:200])
            with contextlib.suppress(OSError):
                self._file.replace(self._file.with_name(self._file.name + ".refused"))
            return []
        return left
