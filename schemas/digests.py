"""The digest of a module's source: the same files give the same digest, on every machine.

Pure over a listing; reading files is the caller's work (`controlplane.discovery` packs, workers verify).
"""

import hashlib
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "sha256:"

_DIGITS: Final = frozenset("0123456789abcdef")


def source_digest(files: Iterable[tuple[str, bytes]]) -> str:
    r"""``sha256:<hex>`` over (relative POSIX path, content) pairs, in path order.

    Each file adds ``<path>\0<sha256 of content>\n``, so that no two listings share their bytes.
    """
    total = hashlib.sha256()
    for path, content in sorted(files):
        total.update(path.encode() + b"\0" + hashlib.sha256(content).hexdigest().encode() + b"\n")
    return PREFIX + total.hexdigest()


def folder_name(digest: str) -> str:
    """The name of a digest's folder in the code store: its hex digits.  ValueError if it is not a digest."""
    hexes = digest.removeprefix(PREFIX)
    if not digest.startswith(PREFIX) or len(hexes) != 64 or not _DIGITS.issuperset(hexes):
        raise ValueError(f"not a source digest: {digest[:80]!r}; expected 'sha256:' and 64 hex digits")
    return hexes
