"""When a process is told to end: by a signal, or because the supervisor that holds its standard input is gone.

A supervisor that dies without a word (kill -9) still closes its pipes; end of file is how its children notice.
"""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable


def watch(loop: asyncio.AbstractEventLoop, ended: Callable[[str], None]) -> None:
    """Call ``ended`` with the reason on SIGTERM, SIGINT, or end of file on a piped standard input."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended, signal.Signals(number).name)
    try:
        descriptor = sys.stdin.fileno()
        kind = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            ended("the supervisor is gone")

    loop.add_reader(descriptor, readable)
