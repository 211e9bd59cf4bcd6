"""Which host this is: what a module's code runs on here, as it was when this process started.

A quarantine and a kept inspection hold only for the host version under which they were found.
"""

from functools import cache

from schemas.kits import versions


@cache
def host_version() -> str:
    """The versions that decide whether code loads, such as ``python/3.11.7 modplane/0.1.0 fastapi/0.165.0 …``."""
    return versions.host_version()
