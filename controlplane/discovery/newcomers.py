"""Which code is too new to make a module of: that of no module, for a while, and what a person deleted.

Pure but for what it remembers from scan to scan.  Called by `controlplane.discovery.discovering`.
"""

import math
from collections.abc import Iterable, Mapping

from controlplane.discovery.concluding import Known


class Newcomers:
    """Code that belongs to no module, and since when."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._had: set[tuple[str, str | None]] = set()
        self._dropped: set[str] = set()

    def dropped(self, uid: str) -> None:
        """Discovery deleted a module, so that its code, when it is back, is new again."""
        self._dropped.add(uid)

    def standing(self, modules: Iterable[Known]) -> list[Known]:
        """``modules`` but those that discovery deleted and that are still on their way out."""
        listed = list(modules)
        self._dropped &= {each.uid for each in listed}
        return [each for each in listed if each.uid not in self._dropped]

    def young(
        self, digests: Mapping[str, str | None], standing: Iterable[Known], now: float, wait: float
    ) -> dict[str, float]:
        """The sources that are to be left alone, and for how many seconds; ``digests``: of all that lie there.

        Infinite: a person deleted the module of this very code, which says enough until the code changes.
        """
        listed = list(standing)
        known = {each.path for each in listed}
        having = {(each.path, each.digest) for each in listed}
        self._had = {each for each in digests.items() if each in having or (each in self._had and each[0] not in known)}
        self._since = {
            path: math.inf if (path, digest) in self._had else min(self._since.get(path, now), now)
            for path, digest in digests.items()
            if path not in known
        }
        return {path: since + wait - now for path, since in self._since.items() if since + wait > now}
