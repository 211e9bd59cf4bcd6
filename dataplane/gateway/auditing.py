"""The audit trail's first step: what was decided about a caller, noted on the way of the request in a microsecond.

    dispatching ──note──▶ queue ──thread──▶ spool of this boot ──agent──▶ NATS ──▶ control plane

A decision is there where a route matched: ``allow`` before the module runs, ``deny`` with 401 or 403, ``error`` when
the route cannot be served here.  Routes that anybody may call decide nothing about callers, so their calls are noted
only if the settings say so.

Always: noting holds up nothing; a note holds a few texts, never a module; the token is in no note and no record.
Called by `dataplane.gateway.dispatching` on the serving loop; goes to `schemas.kits.recorders`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from starlette.types import Scope

from dataplane.gateway.authenticating import Carried
from dataplane.gateway.authorising import Verdict
from dataplane.gateway.serving import RouteName, Target
from dataplane.telemetry import tracing
from schemas import audit
from schemas.kits import forms
from schemas.kits.forms import Filled, Form

OPEN: Final = "Open"
CROWDED: Final = "TooManyCalls"
BROKEN: Final = "CircuitOpen"
UNKEPT: Final = "AuditTrailFull"

_OPENED: Final = Verdict(200, OPEN)
_MOST: Final = audit.TEXT_MAX + 1
"""Characters of which a record tells as much as of more."""
_NOTHING: Final[dict[str, str]] = {}
_OUTCOMES: Final = {200: audit.ALLOW, 401: audit.DENY, 403: audit.DENY}


class Recorder(Protocol):
    """Where notes go (`schemas.kits.recorders.Recorder`)."""

    full: bool
    """Whether what is noted now cannot be kept."""

    def note(self, entry: Any) -> None:
        """Something happened."""
        ...


class Nowhere:
    """Keeps nothing: for hosts that have no trail, such as tests of modules."""

    full = False

    def note(self, entry: Any) -> None:
        """Forget it."""


class Trail:
    """What the dispatcher tells."""

    def __init__(
        self, recorder: Recorder | None = None, *, opened: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        """``opened``: also note the calls of routes that anybody may call."""
        self._recorder = recorder or Nowhere()
        self._note = self._recorder.note
        self._now = now
        self.opened = opened

    @property
    def full(self) -> bool:
        """Whether what is decided now leaves no record."""
        return self._recorder.full

    def decided(self, scope: Scope, target: Target, verdict: Verdict, carried: Carried | None = None) -> None:
        """The verdict about the caller of a route; ``carried``: of the request's headers, if they were looked at."""
        if carried is None:
            carried = tuple(pair for pair in scope["headers"] if pair[0] in audit.CARRIED)
        self._note(
            (
                self._now(),
                verdict,
                target.named,
                scope.get("method", "WEBSOCKET"),
                scope["path"],
                scope.get("client"),
                carried,
                scope[tracing.SPAN].at.trace_id if tracing.SPAN in scope else None,
            )
        )

    def entered(self, scope: Scope, target: Target) -> None:
        """Somebody is let in where anybody is."""
        self.decided(scope, target, _OPENED)

    def failed(self, scope: Scope, target: Target, reason: str, verdict: Verdict | None = None) -> None:
        """A route cannot be served here; ``verdict``: about its caller, if there is one."""
        said = Verdict(503, reason, principal=None if verdict is None else verdict.principal)
        self.decided(scope, target, said)


def encode(entry: tuple[Any, ...]) -> Filled:
    """A note as a record; runs in the recorder's thread.

    What all calls with one outcome at a route have in common is spelled once (`_form`); of what each call brings, words
    that come again are remembered.
    """
    at, verdict, named, method, path, client, carried, trace = entry
    caller = verdict.principal
    said = {"at": _moment(at)}
    if client:
        said["client"] = _word(client[0])
    if verdict.detail:
        said["detail"] = _word(verdict.detail)
    if caller is not None:
        if caller.issuer:
            said["issuer"] = _word(caller.issuer)
        if caller.organisation:
            said["organisation"] = _word(caller.organisation)
    said["path"] = _word(path[:_MOST])
    told = audit.carried(carried) if carried else _NOTHING
    if "request" in told:
        said["request"] = forms.spelled(told["request"])
    if caller is not None and caller.subject:
        said["subject"] = _word(caller.subject)
    if trace or "trace" in told:
        said["trace"] = forms.spelled(trace or told["trace"])
    return Filled(_form(named, method, verdict.status, verdict.reason, tuple(said)), tuple(said.values()))


@functools.lru_cache(maxsize=4096)
def _form(named: RouteName, method: str, status: int, reason: str, own: tuple[str, ...]) -> Form:
    """What is the same for all calls of a route with one outcome."""
    outcome = _OUTCOMES.get(status, audit.ERROR)
    said = audit.record(
        kind=audit.DECISION, outcome=outcome, status=status, reason=reason, method=method, **named._asdict()
    )
    return Form(said, own)


@functools.lru_cache(maxsize=8192)
def _word(said: str) -> bytes:
    """A text from outside, made harmless and spelled."""
    return forms.spelled(audit.text(said))


def _moment(at: float) -> bytes:
    return f'"{audit.moment(at)}"'.encode()
