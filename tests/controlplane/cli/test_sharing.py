"""Work that several processes share: the same results in the same order, whatever becomes of a process.

Each case has a process of its own, with one thread, which is what forking needs.
"""

import subprocess
import sys

import pytest

from tests.doubles import platform

pytestmark = pytest.mark.processes

_HEAD = """
import os, signal, sys, time
from controlplane.cli import sharing
us = os.getpid()
"""


def run(text: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", _HEAD + text], stdout=subprocess.PIPE, check=True, timeout=60, cwd=platform.ROOT
    )
    return ended.stdout.decode()


def test_results_come_in_the_order_of_the_pieces_and_each_process_does_its_part() -> None:
    made = run("print(*sharing.share(lambda piece: (piece * 2, os.getpid()), range(7), 3))").replace(", ", ",").split()
    pairs = [tuple(map(int, pair.strip("()").split(","))) for pair in made]
    assert [value for value, _ in pairs] == [0, 2, 4, 6, 8, 10, 12]
    pids = [pid for _, pid in pairs]
    assert pids == [pids[place % 3] for place in range(7)]
    assert len(set(pids)) == 3


@pytest.mark.parametrize(
    "fate",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os._exit(0)",
        "raise MemoryError",
        "raise KeyboardInterrupt",
        "return lambda: None",
    ],
)
def test_pieces_of_a_process_that_does_not_come_to_its_end_are_done_by_us(fate: str) -> None:
    text = f"""
def work(piece):
    if os.getpid() != us and piece == 2:
        {fate}
    return piece, os.getpid() == us
print(*sharing.share(work, range(4), 2))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child is left")
"""
    assert run(text) == "(0, True) (1, True) (2, True) (3, True)\nno child is left\n"


def test_without_another_process_we_do_it_all() -> None:
    text = """
def fork():
    raise BlockingIOError
os.fork = fork
print(*sharing.share(lambda piece: piece, range(3), 2))
"""
    assert run(text) == "0 1 2\n"


def test_what_ends_us_ends_the_others() -> None:
    text = """
def work(piece):
    if os.getpid() != us:
        time.sleep(3600)
    raise ValueError("ours")
before = os.listdir("/proc/self/fd")
try:
    sharing.share(work, range(2), 2)
except ValueError as error:
    print(error)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print(os.listdir("/proc/self/fd") == before)
"""
    assert run(text) == "ours\nTrue\n"


def test_with_a_thread_there_is_one_process() -> None:
    text = """
import threading
print(1 <= sharing.processes() <= sharing.MOST)
done = threading.Event()
threading.Thread(target=done.wait).start()
print(sharing.processes())
done.set()
"""
    assert run(text) == "True\n1\n"
