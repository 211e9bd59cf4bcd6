"""Prints the OpenAPI document of the control plane, for `schemas.publishing`.

The application is made as `controlplane.app` makes it, over an empty database, and nothing of it is run.  Called by
`controlplane.__main__`.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from controlplane.api import apps, authenticating
from controlplane.audit import asking
from controlplane.store import stores
from controlplane.telemetry import measurements
from schemas import names
from schemas.kits import logs, options
from schemas.kits.clocks import SystemClock
from schemas.kits.tokens import verifying
from schemas.meta import Json


class _NoDiscovery:
    """Stands where discovery does."""

    async def discover(self, *, prune: bool = False) -> Json:
        """Finds nothing."""
        return {}


class _NoAudit:
    """Stands where the audit trail is kept."""

    async def find(self, wanted: asking.Wanted) -> tuple[list[Json], bool]:
        """Finds nothing."""
        return [], False

    async def verify(self) -> Json:
        """Nobody touched it."""
        return {"ok": True}


async def _document() -> Json:
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="modplane-openapi-") as folder:
        store = await stores.open_store(f"sqlite:///{folder}/empty.db", clock=clock)
        try:
            api = apps.create_app(
                store,
                clock=clock,
                sources=None,
                discoverer=_NoDiscovery(),
                readiness=dict,
                info=dict,
                version=names.VERSION,
                callers=authenticating.Callers(verifying.Verifier(()), clock, lambda *_: False),
                measured=measurements.Measurements(Path(folder) / "metrics.db", clock.now),
                auditor=_NoAudit(),
            )
            api.close()
            return api.app.openapi()
        finally:
            await store.close()


def main() -> int:
    """Print it, and nothing else; returns the exit code."""
    logs.configure(options.LogLevel.ERROR)
    sys.stdout.write(json.dumps(asyncio.run(_document())) + "\n")
    return 0
