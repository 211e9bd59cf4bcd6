"""Whose tokens are void, as this plane's own doors ask it: the Revocation objects of the store, followed.

`load` once before the first request; `run` from then on, so that a revocation that another control plane stored counts
here as well.  Asked by `authenticating`, also for tokens that are remembered.
"""

from collections.abc import Iterable

from controlplane import errors
from controlplane.store import readings, stores
from schemas.meta import Json
from schemas.principals import Principal
from schemas.revocation import RevocationSet, RevocationSpec

_KIND = "Revocation"


class Revocations:
    """The revocations that count now."""

    def __init__(self, store: stores.Store) -> None:
        self._store = store
        self._held = RevocationSet()
        self._revision = 0

    def revoked(self, principal: Principal, issued_at: float) -> bool:
        """Whether a caller whose token is of this unix time is shut out."""
        return self._held.revoked(principal, issued_at) is not None

    async def load(self) -> None:
        """Take what the store holds."""

        def query(reading: readings.Reading) -> tuple[int, list[tuple[str, Json]]]:
            return reading.revision, [(record.name, record.spec) for record in reading.list(_KIND)]

        self._revision, found = await self._store.read(query)
        self._held = RevocationSet().with_changes({name: RevocationSpec.model_validate(spec) for name, spec in found})

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            try:
                async for changes in self._store.follow(kinds=[_KIND], after=self._revision):
                    self._take((change.name, change.type, change.document) for change in changes)
                    self._revision = changes[-1].revision
            except errors.Compacted:
                await self.load()

    def _take(self, changes: Iterable[tuple[str, str, Json]]) -> None:
        self._held = self._held.with_changes(
            {
                name: None if what == "DELETED" else RevocationSpec.model_validate(document["spec"])
                for name, what, document in changes
            }
        )
