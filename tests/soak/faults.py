"""What goes wrong in a soak: processes killed and frozen, NATS and its bucket, disk, clocks, folders.

A fault begins, lasts while people go on, and ends.  ``cuts`` and ``parts`` say what callers may notice meanwhile
(`tests.soak.histories.Span`); everything else has to go on as if nothing was.  `deck` deals every sort before any
comes twice.
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

import psutil
from nats.aio.client import Client
from nats.errors import Error as NatsError

from schemas import names
from tests.doubles.platform import Platform

_BUCKET: Final = f"KV_{names.BUCKET_DESIRED}"
WORKERS: Final = ("w0", "w1")


class Fault:
    """One sort; made anew for each time."""

    name = ""
    cuts = False
    """Connections to workers may end or stand still."""
    parts = False
    """Workers may be apart from the truth for a while."""
    clocks = False
    """The time of day is wrong meanwhile."""
    alone = False
    """Nothing else may go wrong at the same time."""
    kills = False
    """Processes end of it: none of them in the quiet part of a soak, in which memory is watched."""

    def __init__(self, platform: Platform, rng: Random) -> None:
        self.platform = platform
        self.rng = rng

    def begin(self) -> None:
        """It begins."""

    def end(self) -> None:
        """It ends."""


def _process(platform: Platform, part: str) -> psutil.Process | None:
    words = {"controlplane": ("controlplane", "serve"), "nats": ("nats-server",)}.get(part)
    with contextlib.suppress(AssertionError, psutil.Error):
        return platform.child(*(words or ("dataplane", "worker", f"--id {part}")))
    return None


class Kill(Fault):
    """kill -9; the supervisor starts it again."""

    kills = True
    parts_of: tuple[str, ...] = ()

    def begin(self) -> None:
        for part in self.parts_of:
            if (process := _process(self.platform, part)) is not None:
                with contextlib.suppress(psutil.Error):
                    process.kill()


class Stop(Kill):
    """SIGTERM; the supervisor starts it again."""

    def begin(self) -> None:
        for part in self.parts_of:
            if (process := _process(self.platform, part)) is not None:
                with contextlib.suppress(psutil.Error):
                    process.terminate()


class Freeze(Fault):
    """SIGSTOP until the end."""

    parts = True
    parts_of: tuple[str, ...] = ()

    def begin(self) -> None:
        self.frozen = [found for part in self.parts_of if (found := _process(self.platform, part)) is not None]
        for process in self.frozen:
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def end(self) -> None:
        for process in self.frozen:
            with contextlib.suppress(psutil.Error):
                process.resume()


class Roll(Fault):
    """SIGHUP: the supervisor replaces the workers one by one, and nobody notices."""

    kills = True
    name = "rolling restart"

    def begin(self) -> None:
        assert self.platform.process is not None
        os.kill(self.platform.process.pid, signal.SIGHUP)


class Bucket(Fault):
    """Somebody else has his hands in the desired bucket."""

    parts = True

    def begin(self) -> None:
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            asyncio.run(asyncio.wait_for(self._begin(), 20))

    async def _begin(self) -> None:
        async with self.platform.nats("controlplane") as client:
            await self.do(client)

    async def do(self, client: Client) -> None:
        """What is done."""
        raise AssertionError("each sort does something else")

    async def keys(self, client: Client) -> list[str]:
        """The modules' keys in the bucket."""
        found = await (await client.jetstream().key_value(names.BUCKET_DESIRED)).keys()
        return sorted(key for key in found if key != names.KEY_HEAD) or [names.KEY_HEAD]


def _bucket(name: str, do: Callable[[Bucket, Client], Awaitable[None]]) -> type[Fault]:
    return type("Bucket", (Bucket,), {"name": name, "do": do})


async def _purge(fault: Bucket, client: Client) -> None:
    await client.jetstream().purge_stream(_BUCKET)


async def _delete(fault: Bucket, client: Client) -> None:
    await client.jetstream().delete_stream(_BUCKET)


async def _lose_events(fault: Bucket, client: Client) -> None:
    await client.jetstream().delete_stream(names.STREAM_EVENTS)


async def _garbage(fault: Bucket, client: Client) -> None:
    for key in fault.rng.sample(keys := await fault.keys(client), min(2, len(keys))):
        await client.jetstream().publish(f"$KV.{names.BUCKET_DESIRED}.{key}", fault.rng.randbytes(200))


async def _marker(fault: Bucket, client: Client) -> None:
    store = await client.jetstream().key_value(names.BUCKET_DESIRED)
    await store.delete(fault.rng.choice(await fault.keys(client)))


async def _altered(fault: Bucket, client: Client) -> None:
    store = await client.jetstream().key_value(names.BUCKET_DESIRED)
    key = fault.rng.choice(await fault.keys(client))
    document = json.loads((await store.get(key)).value or b"{}")
    document["payload"] = document.get("payload", "").replace("stamp", "stump")
    await store.put(key, json.dumps(document).encode())


async def _beheaded(fault: Bucket, client: Client) -> None:
    store = await client.jetstream().key_value(names.BUCKET_DESIRED)
    head = json.loads((await store.get(names.KEY_HEAD)).value or b"{}")
    lie = fault.rng.choice(({"count": 0, "hash": "0" * 32}, {"revision": 1}, {"store": "another"}))
    await store.put(names.KEY_HEAD, json.dumps({**head, **lie}).encode())


class Clock(Fault):
    """The wall clock of all our processes jumps, and back at the end; monotonic time runs on."""

    name = "clock jump"
    clocks = True

    @property
    def file(self) -> Path:
        return self.platform.home / "inside" / "clock"

    def begin(self) -> None:
        self.file.write_text(str(self.rng.choice((-7200, -90, 90, 3600, 86_400))))

    def end(self) -> None:
        self.file.write_text("0")


class FullDisk(Fault):
    """No byte is left where the data folder lies; without a disk of our own, files of ours cannot grow."""

    name = "full disk"
    kills = True
    """NATS has to be started again behind it."""
    parts = True

    def begin(self) -> None:
        self.limited: list[tuple[psutil.Process, tuple[int, int]]] = []
        self.ballast = self.platform.data / "ballast"
        if os.path.ismount(self.platform.data):
            self._fill()
        else:
            self._limit()

    def end(self) -> None:
        self.ballast.unlink(missing_ok=True)
        for process, limit in self.limited:
            with contextlib.suppress(OSError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)

    def _fill(self) -> None:
        with contextlib.suppress(OSError), self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def _limit(self) -> None:
        for part in ("controlplane", *WORKERS):
            process = _process(self.platform, part)
            if process is not None:
                with contextlib.suppress(OSError):
                    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
                    self.limited.append((process, before))


class KillUp(Fault):
    """kill -9 of `modplane up`: all that it started ends with it; somebody starts it again on the same ports."""

    name = "kill up"
    cuts = True
    parts = True
    kills = True

    alone = True

    def begin(self) -> None:
        assert self.platform.process is not None
        family = self.platform.children()
        self.platform.process.kill()
        self.platform.process.wait()
        _, alive = psutil.wait_procs(family, timeout=30)
        if alive:
            raise AssertionError(f"outlived the kill of up: {[' '.join(each.cmdline()) for each in alive]}")

    def end(self) -> None:
        self.platform.log.close()
        self.platform.start(timeout=120)


class FolderGone(Fault):
    """The modules path is not there for a while, as when a network folder is not mounted."""

    name = "modules path away"

    def begin(self) -> None:
        self.away = self.platform.home / "modules.away"
        self.platform.modules.rename(self.away)

    def end(self) -> None:
        self.away.rename(self.platform.modules)


class Moment(Fault):
    """Nothing goes wrong: people alone have to be borne."""

    name = "nothing"


def _named(base: type[Fault], name: str, *parts_of: str, cuts: bool = False, parts: bool = False) -> type[Fault]:
    return type(base.__name__, (base,), {
        "name": name, "parts_of": parts_of, "cuts": cuts, "parts": parts or base.parts,
    })  # fmt: skip


SORTS: Final[tuple[type[Fault], ...]] = (
    _named(Kill, "kill control plane", "controlplane"),
    _named(Kill, "kill worker", "w0", cuts=True, parts=True),
    _named(Kill, "kill both workers", *WORKERS, cuts=True, parts=True),
    _named(Kill, "kill NATS", "nats", parts=True),
    _named(Kill, "kill everything", "nats", "controlplane", *WORKERS, cuts=True, parts=True),
    _named(Stop, "stop NATS", "nats", parts=True),
    _named(Stop, "stop worker", "w1", parts=True),
    _named(Stop, "stop control plane", "controlplane"),
    _named(Freeze, "freeze control plane", "controlplane"),
    _named(Freeze, "freeze worker", "w1", cuts=True),
    _named(Freeze, "freeze NATS", "nats"),
    Roll,
    KillUp,
    _bucket("bucket purged", _purge),
    _bucket("bucket deleted", _delete),
    _bucket("events stream deleted", _lose_events),
    _bucket("garbage in the bucket", _garbage),
    _bucket("delete marker in the bucket", _marker),
    _bucket("altered document", _altered),
    _bucket("wrong head", _beheaded),
    Clock,
    FullDisk,
    FolderGone,
    Moment,
)


def deck(rng: Random, *, kills: bool) -> Iterator[type[Fault]]:
    """Every sort in random order, and again; without ``kills`` none of which a process ends."""
    sorts = [sort for sort in SORTS if kills or not sort.kills]
    while True:
        rng.shuffle(sorts)
        yield from sorts


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int = 400) -> Iterator[bool]:
    """A disk of our own at ``place``, if this machine lets us have one."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "soak", str(place)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
