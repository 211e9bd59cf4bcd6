"""How often organisations called modules, as one boot of a worker has counted since its start.

Counts only grow within a boot, so a repeated document counts once and a lost one is made up for by the next.
"""

from pydantic import AwareDatetime

from schemas.meta import Model


class AccessCount(Model):
    """The calls of one organisation to one module that were let in."""

    organisation: str
    module: str
    count: int
    last: AwareDatetime
    """When the last of them began."""


class UsageReport(Model):
    """A part of what one boot has counted; the key is ``<worker>.<boot>.<part>`` in ``MODPLANE_USAGE``."""

    worker: str
    boot: str
    part: int = 0
    counts: list[AccessCount] = []

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return f"{self.worker}.{self.boot}.{self.part}"
