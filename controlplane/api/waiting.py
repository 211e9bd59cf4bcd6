"""What the control plane answers while its database is away and it cannot start: that it waits, and for what.

Pure ASGI, without a store.  ``/health`` and ``/ready`` are as later; everything else is a 503 with Retry-After, in the
form that its path promises.  Used by `controlplane.starting`.
"""

from starlette.types import Receive, Scope, Send

from controlplane import errors
from controlplane.api import answering
from schemas.kits.checks import Checks
from schemas.kits.clocks import Clock


class Waiting:
    """The application of a process that is not there yet."""

    def __init__(self, clock: Clock) -> None:
        self._checks = Checks(lambda: {"store": (False, self.reason)}, clock)
        self.reason = ""
        """What is waited for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == "/health":
            response = answering.answer({"status": "ok"})
        elif path == "/ready":
            checks = self._checks.told()
            response = answering.answer({"status": "not ready", "ready": False, "checks": checks}, 503)
        else:
            response = answering.refused(errors.StoreBusy(self.reason), path)
        await response(scope, receive, send)
