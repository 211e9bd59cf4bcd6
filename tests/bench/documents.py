"""What a stream of ten thousand manifests costs, one in twenty of them bad, until every problem is told with its place.

Reading and checking are timed one after the other, in processor time of one process; "until all is told" is both as
the command does them, which shares them out among processes; the command is timed with its start, until it has printed
a line for each document.  The peak counts each page of memory once (what processes share is shared).  Documents come as
people and programs write them; bad ones misspell a field or a kind, or are no YAML at all.
"""

import contextlib
import functools
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import yaml

from controlplane.admission import composing
from controlplane.cli import exits, main, manifests
from tests.bench.tables import median, table
from tests.doubles import platform

COUNT: Final = 10_000
BAD: Final = 20
"""Every so many documents one is bad."""
_ROUNDS: Final = 3
_BY_HAND: Final = """\
apiVersion: modplane.dev/v1
kind: Module
metadata: {{name: thing-{number}, labels: {{team: insights}}}}
spec:
  entryPoint: thing_{number}:Thing
  version: 1.0.{number}
  routing: {{apiVersion: v1, namespace: thing}}
  config: {{currency: EUR, limit: 3}}
"""
_TOLD: Final = """\
import json, resource, sys, time
from controlplane.cli import main, manifests
main.collect_seldom()
def spent():
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
begun, before = time.perf_counter(), spent()
told = manifests.check(manifests.read(sys.argv[1:]))
print(json.dumps([time.perf_counter() - begun, spent() - before, len(told)]))
"""
_MISTAKES: Final = (("kind: Module", "kind: Modul"), ("version:", "versoin:"), ("spec:", "spec: ["))


def run(folder: Path) -> str:
    """The table."""
    before = gc.get_threshold()
    main.collect_seldom()  # as the command does
    try:
        return _run(folder)
    finally:
        gc.set_threshold(*before)


def _run(folder: Path) -> str:
    rows = []
    for name, write in _SHAPES.items():
        data = stream(write)
        file = folder / "stream"
        file.write_bytes(data)
        rounds = [(*_timed(data), *_told(file), _command(file)) for _ in range(_ROUNDS)]
        times = [f"{median([times[place] for times in rounds]):.2f}" for place in range(len(rounds[0]))]
        rows.append((name, f"{len(data) / 1e6:.1f} MB", *times, _peak(file)))
    heads = ("written", "size", "reading s", "checking s", "until all is told s", "processor s", "command s", "peak MB")
    return table(f"A stream of {COUNT:,} manifests, one in {BAD} bad: wanted within 1 s and 100 MB", heads, rows)


def stream(write: Callable[[int], str], count: int = COUNT) -> bytes:
    """So many documents, written in one way."""
    return "---\n".join(_mistaken(write(number), number) for number in range(count)).encode()


def by_hand(number: int) -> str:
    """As people write a manifest."""
    return _BY_HAND.format(number=number)


def by_program(number: int) -> str:
    """As PyYAML writes it."""
    return _dumped().replace("NUMBER", str(number))


@functools.cache
def _dumped() -> str:
    return yaml.safe_dump(yaml.safe_load(_BY_HAND.format(number="NUMBER")), sort_keys=False)


def with_texts(number: int) -> str:
    """With a text of several lines, which only libyaml reads."""
    return by_hand(number) + "  description: |\n    What it does,\n    in two lines.\n"


def _mistaken(text: str, number: int) -> str:
    return text if number % BAD else text.replace(*_MISTAKES[number // BAD % len(_MISTAKES)])


_SHAPES: Final = {"by hand": by_hand, "by a program": by_program, "with texts of several lines": with_texts}


def _timed(data: bytes) -> tuple[float, float]:
    """Seconds of processor time for reading, and for checking with the words for every problem."""
    started = time.process_time()
    found = [manifests.Manifest("stream", document) for document in composing.compose(data)]
    read = time.process_time()
    assert len(manifests.check(found)) >= COUNT // BAD
    return read - started, time.process_time() - read


def _told(file: Path) -> tuple[float, float]:
    """Seconds until all is told, by a process that has its code, and those of processor time of all that took part."""
    words = [sys.executable, "-c", _TOLD, str(file)]
    ended = subprocess.run(words, stdout=subprocess.PIPE, check=True, cwd=platform.ROOT)
    wall, spent, problems = json.loads(ended.stdout)
    assert problems >= COUNT // BAD
    return wall, spent


def _command(file: Path) -> float:
    """Seconds that ``modplane validate`` takes."""
    begun = time.perf_counter()
    with subprocess.Popen(_words(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=platform.ROOT) as it:
        assert it.wait() == exits.NO
    return time.perf_counter() - begun


def _peak(file: Path) -> int:
    """The most memory, in megabytes, that the command and what it starts were seen to have together."""
    most = 0
    with psutil.Popen(_words(file), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=platform.ROOT) as command:
        while command.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                seen = [command, *command.children(recursive=True)]
                most = max(most, sum(process.memory_full_info().pss for process in seen))
    return round(most / 1024 / 1024)


def _words(file: Path) -> list[str]:
    return [sys.executable, "-m", "controlplane.cli.main", "validate", "-f", str(file)]
