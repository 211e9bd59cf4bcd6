"""Which host this is: the versions that decide whether a module's code loads.

Read from disk at each call, so that a process that lives on sees what was installed under it.  Workers report what
they started with; `modplane up` compares that with what is installed now.
"""

import platform
from importlib import metadata
from typing import Final

_PARTS: Final = ("modplane", "fastapi", "starlette", "pydantic")


def host_version() -> str:
    """Such as ``python/3.11.7 modplane/0.1.0 fastapi/0.165.0 …``; ``source`` for what is not installed."""
    return " ".join([f"python/{platform.python_version()}", *(f"{part}/{_version(part)}" for part in _PARTS)])


def changes(before: str, after: str) -> str:
    """What differs between two host versions, for people: ``fastapi/0.165.0 → 0.166.0``."""
    old = dict(part.split("/", 1) for part in before.split() if "/" in part)
    new = dict(part.split("/", 1) for part in after.split() if "/" in part)
    return ", ".join(
        f"{name}/{old.get(name, 'none')} → {new.get(name, 'none')}"
        for name in [*old, *(name for name in new if name not in old)]
        if old.get(name) != new.get(name)
    )


def _version(part: str) -> str:
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return "source"
