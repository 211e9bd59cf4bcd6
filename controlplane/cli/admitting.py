"""The token with which the user of `modplane up` administers it: a file in the data folder, for its owner's eyes only.

Signed with the development key, valid for some days, written anew at each start and every day from then on.  Clients
on the same data folder find it in ``endpoints.json``.
"""

import asyncio
import time
from pathlib import Path
from typing import Final

FILE: Final = "admin.token"
_VALID_SECONDS: Final = 7 * 86_400.0
_RENEW_SECONDS: Final = 86_400.0


def path(data_dir: Path) -> Path:
    """Where the token of a data folder is."""
    return data_dir / FILE


def write(data_dir: Path) -> None:
    """Put a fresh token in place; OSError or ValueError when there is no key or no room."""
    from schemas.kits.signatures import place  # late: most commands need no cryptography
    from schemas.kits.tokens import development

    caller = development.Caller("admin", roles=("admin",))
    token = development.sign(data_dir, caller, now=time.time(), seconds=_VALID_SECONDS)
    place(path(data_dir), f"{token}\n".encode(), 0o600, replace=True)


async def keep(data_dir: Path) -> None:
    """Renew the token until cancelled."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        write(data_dir)
