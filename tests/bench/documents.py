"""What a stream of ten thousand manifests costs, one in twenty of them bad, until every problem is told with its place.

Reading and checking are timed inside a process that has its code; the command with its start, until it has printed a
line for each document.  Documents come as people and programs write them; bad ones misspell a field or a kind, or are
no YAML at all.
"""

import functools
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
_LAUNCHER: Final = """\
import json, resource, subprocess, sys, time
started = time.perf_counter()
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wall, usage = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([ended.returncode, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
"""A small process in between: a child's peak begins with what its parent holds."""
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
        rounds = [_timed(data) for _ in range(_ROUNDS)]
        read, checked = (median([times[place] for times in rounds]) for place in (0, 1))
        file = folder / "stream"
        file.write_bytes(data)
        wall, spent, peak = _command(file)
        rows.append(
            (name, f"{len(data) / 1e6:.1f} MB", f"{read:.2f}", f"{checked:.2f}", f"{spent:.2f}", f"{wall:.2f}", peak)
        )
    heads = ("written", "size", "reading s", "checking s", "command: processor s", "until done s", "peak MB")
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


def _command(file: Path) -> tuple[float, float, int]:
    """(seconds until it ends, of processor time, peak memory in megabytes) of ``modplane validate``."""
    words = [sys.executable, "-m", "controlplane.cli.main", "validate", "-f", str(file)]
    ended = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *words], stdout=subprocess.PIPE, check=True, cwd=platform.ROOT
    )
    code, wall, spent, peak = json.loads(ended.stdout)
    assert code == exits.NO
    return wall, spent, round(peak / 1024)
