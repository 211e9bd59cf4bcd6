"""JSON pointers (RFC 6901): how every violation says where it is.

Always holds: `join` and `split` undo each other.  Called by every other file of this room; nothing follows.
"""

import functools
from collections.abc import Iterable
from typing import Any, Final

MISSING: Final = object()
"""What `get` answers where nothing is."""


def escape(part: str | int) -> str:
    """One reference token: ``~`` becomes ``~0`` and ``/`` becomes ``~1``."""
    return str(part).replace("~", "~0").replace("/", "~1")


def join(parts: Iterable[str | int]) -> str:
    """The pointer of ``parts``; no parts give ``""``, the whole document."""
    return "".join(f"/{escape(part)}" for part in parts)


def split(pointer: str) -> list[str]:
    """The parts of a pointer."""
    return list(_parts(pointer))


def parent(pointer: str) -> str:
    """The pointer one step up; that of the whole document is its own parent."""
    return pointer.rpartition("/")[0]


def get(document: Any, pointer: str) -> Any:
    """What a pointer names inside ``document``, or `MISSING`."""
    found = document
    for part in _parts(pointer):
        if isinstance(found, dict):
            found = found.get(part, MISSING)
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return MISSING
    return found


@functools.lru_cache(4096)
def _parts(pointer: str) -> tuple[str, ...]:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def dotted(pointer: str) -> str:
    """A pointer as people write a field: ``spec.dependencies[0].name``."""
    text = ""
    for part in split(pointer):
        text += f"[{part}]" if part.isdecimal() else f".{part}"
    return text.lstrip(".")
