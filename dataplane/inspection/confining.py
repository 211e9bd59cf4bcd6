"""What a child is held to: a user of its own, and limits of memory, processes, files and processor time.

Limits of what one module's code may take while it is inspected; not a wall against somebody who means harm.  As root a
child gets a user id of its own, since root is held to no limit of processes and could lift the others; it keeps only
the right to read what we read.  Otherwise it gets a user namespace, in which its processes are counted by themselves;
where there are none, the limit counts all that our user runs already.  Called by `dataplane.inspection.children` in a
child, before anything of an author's runs.
"""

import ctypes
import os
import re
import resource
import signal
import time
from pathlib import Path
from typing import Final

MEMORY: Final = 2 << 30
"""Bytes of address space beyond what the host itself maps."""
PROCESSES: Final = 64
"""Processes and threads at once."""
FILE: Final = 16 << 20
"""Bytes of any file that the code writes, and of what it prints."""
FILES: Final = 256
"""Open file descriptors."""
GRACE: Final = 2
"""Seconds of processor time beyond the time that an inspection has."""
_PROCESSOR: Final = 600
"""Seconds of processor time of a whole child."""

_FIRST_UID: Final = 2_000_000_000
"""User ids from here on belong to nobody (systemd's UIDS-GIDS page)."""
_UIDS: Final = 4096
_DIE_WITH_PARENT, _DUMPABLE, _KEEP_CAPS, _REAP, _NO_NEW_RIGHTS = 1, 4, 8, 36, 38
"""Options of prctl(2)."""
_MAY_READ: Final = 1 << 1
"""``CAP_DAC_OVERRIDE`` of capabilities(7)."""
_MAY_CHANGE: Final = 1 << 7
"""``CAP_SETUID``."""
_CAPABILITIES: Final = 0x20080522
"""The version of capset(2)."""
_NEW_USERS: Final = 0x10000000
"""``CLONE_NEWUSER`` of unshare(2)."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def reap() -> None:
    """Become who inherits what one's descendants leave behind."""
    _libc.prctl(_REAP, 1, 0, 0, 0)


def confine(number: int) -> None:
    """Take the user of the child ``number`` where we may, die with the parent, and set the limits."""
    alone = _change_user(_FIRST_UID + number % _UIDS) or _enter_namespace(os.getuid(), os.getgid())
    processes = PROCESSES if alone else _tasks(os.getuid()) + PROCESSES
    reap()
    _libc.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0)
    _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with open("/proc/self/statm", "rb") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    for what, wanted in (
        (resource.RLIMIT_AS, mapped + MEMORY),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CPU, _PROCESSOR),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(what, (most, most))


def allow(seconds: float) -> None:
    """Give the next inspection its processor time."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(int(time.process_time() + seconds) + GRACE, hard), hard))


def _change_user(uid: int) -> bool:
    if os.geteuid() != 0 or (_rights() & (_MAY_READ | _MAY_CHANGE)) != _MAY_READ | _MAY_CHANGE:
        return False
    _libc.prctl(_KEEP_CAPS, 1, 0, 0, 0)
    try:
        os.setresuid(uid, uid, uid)
    except OSError:
        return False  # a container that does not know such users
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    rights = (ctypes.c_uint32 * 6)(_MAY_READ, _MAY_READ, 0, 0, 0, 0)
    _libc.capset(header, rights)
    _libc.prctl(_DUMPABLE, 1, 0, 0, 0)
    return True


def _enter_namespace(uid: int, gid: int) -> bool:
    """Be the same user in a namespace of one's own; processes are counted by namespace and user since Linux 5.14."""
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (5, 14) or uid == 0:
        return False
    if _libc.unshare(_NEW_USERS) != 0:
        return False  # many a container forbids it
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _rights() -> int:
    """The effective capabilities of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _tasks(uid: int) -> int:
    """How many threads the processes of a user have."""
    count = 0
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdigit() and place.stat().st_uid == uid:
                count += len(os.listdir(place / "task"))
        except OSError:
            continue  # it ended meanwhile
    return count
