"""Which host this is: what a module's code runs on here.

A quarantine and a kept inspection hold only for the host version under which they were found.
"""

import platform
from functools import cache
from importlib import metadata

_PARTS = ("modplane", "fastapi", "starlette", "pydantic")


@cache
def host_version() -> str:
    """The versions that decide whether code loads, such as ``python/3.11.7 modplane/0.1.0 fastapi/0.165.0 …``."""
    return " ".join([f"python/{platform.python_version()}", *(f"{part}/{_version(part)}" for part in _PARTS)])


def _version(part: str) -> str:
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return "source"
