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

from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.serving import Target
from dataplane.telemetry import tracing
from schemas import audit
from schemas.meta import Json

OPEN: Final = "Open"
CROWDED: Final = "TooManyCalls"
BROKEN: Final = "CircuitOpen"
UNKEPT: Final = "AuditTrailFull"

_OPENED: Final = Verdict(200, OPEN)
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

    def decided(self, scope: Scope, target: Target, verdict: Verdict) -> None:
        """The verdict about the caller of a route."""
        served, span = target.served, scope.get(tracing.SPAN)
        self._note(
            (
                self._now(),
                verdict,
                target.requirement,
                served.name,
                served.desired.version,
                served.generation,
                target.template,
                scope.get("method", "WEBSOCKET"),
                scope["path"],
                scope.get("client"),
                [pair for pair in scope["headers"] if pair[0] in audit.CARRIED],
                None if span is None else span.at.trace_id,
            )
        )

    def entered(self, scope: Scope, target: Target, verdict: Verdict | None) -> None:
        """Somebody is let in; ``verdict`` None: anybody is."""
        if verdict is not None:
            self.decided(scope, target, verdict)
        elif self.opened:
            self.decided(scope, target, _OPENED)

    def failed(self, scope: Scope, target: Target, reason: str, verdict: Verdict | None = None) -> None:
        """A route cannot be served here; ``verdict``: about its caller, if there is one."""
        said = Verdict(503, reason, principal=None if verdict is None else verdict.principal)
        self.decided(scope, target, said)


def encode(entry: tuple[Any, ...]) -> Json:
    """A note as a record; runs in the recorder's thread."""
    at, verdict, asked, module, version, generation, template, method, path, client, headers, trace = entry
    caller = verdict.principal
    record = {
        "kind": audit.DECISION,
        "at": audit.moment(at),
        "outcome": _OUTCOMES.get(verdict.status, audit.ERROR),
        "status": verdict.status,
        "reason": verdict.reason,
        "method": audit.text(method),
        "path": audit.text(path),
        **_place(module, version, generation, template, asked),
    }
    if caller is not None:
        record.update(_who(caller.subject, caller.issuer, caller.organisation))
    if verdict.detail:
        record["detail"] = audit.text(verdict.detail)
    if client:
        record["client"] = client[0]
    record.update(audit.carried(headers))
    if trace is not None:
        record["trace"] = trace
    return record


@functools.lru_cache(maxsize=4096)
def _place(module: str, version: str, generation: int, template: str, asked: Requirement | None) -> Json:
    """What is the same for all calls of a route."""
    return audit.record(module=module, version=version, generation=generation, route=template, policy=policy(asked))


@functools.lru_cache(maxsize=4096)
def _who(subject: str, issuer: str, organisation: str | None) -> Json:
    """What is the same for all calls of a caller."""
    return audit.record(subject=subject, issuer=issuer, organisation=organisation)


@functools.lru_cache(maxsize=4096)
def policy(asked: Requirement | None) -> str:
    """A requirement in words, such as ``PERMISSION permissions=read|write,export flags=beta tenancy=organisation``."""
    if asked is None:
        return "NONE"
    level = (
        "ADMIN" if asked.admin else "ROLE" if asked.roles else "PERMISSION" if asked.permissions
        else "BASIC" if asked.authenticated else "NONE"
    )  # fmt: skip
    words = [level]
    for name, clauses in (("permissions", asked.permissions), ("roles", asked.roles)):
        if clauses:
            words.append(f"{name}=" + ",".join("|".join(sorted(clause)) for clause in clauses))
    if asked.flags:
        words.append("flags=" + ",".join(asked.flags))
    if asked.tenancy:
        words.append("tenancy=organisation")
    return " ".join(words)
