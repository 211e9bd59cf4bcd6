"""Administrative changes, noted as they are asked for: who wants what changed, and what becomes of it.

One record for each object that a request changes or is refused; one for a request that changes nothing or is refused as
a whole.  Dry runs change nothing and are not noted.  Made by `controlplane.api.guarding` for each request that writes,
told by the handlers, written by a recorder in a thread of its own (`schemas.kits.recorders`).  What people write as
rows and what discovery finds is noted by the wiring (`controlplane.app`), with its manager in the place of a caller.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from controlplane.telemetry import tracing
from schemas import audit, kinds, names
from schemas.meta import Json
from schemas.principals import Principal

WRITER: Final = "controlplane"
UNCHANGED: Final = "Unchanged"
DONE: Final = "Done"
REFUSED: Final = "refused"
ROW_REJECTED: Final = "RowRejected"
_DENIED: Final = frozenset({401, 403})


class Recorder(Protocol):
    """Where notes go."""

    full: bool
    """Whether what is noted now cannot be kept."""

    def note(self, entry: Any) -> None:
        """Something happened."""
        ...


class Nowhere:
    """Keeps nothing."""

    full = False

    def note(self, entry: Any) -> None:
        """Forget it."""


@dataclass(slots=True)
class Asked:
    """One request that is to change something."""

    recorder: Recorder
    method: str
    path: str
    client: str
    headers: Iterable[tuple[bytes, bytes]]
    now: Callable[[], float]
    resource: str
    """What the address names."""
    within: dict[str, str]
    """The trace and the request that it is here, where its caller does not name them."""
    caller: Principal | None = None
    manager: str = ""
    reason: str = ""
    """Why the request was refused as a whole."""
    verb: str = ""
    """What the request does, where no object says it."""
    dry: bool = False
    """Whether nothing is to be changed."""
    noted: int = 0
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.at = self.now()

    def changed(self, verb: str, resource: str, *, revision: int | None = None, generation: int | None = None) -> None:
        """An object was changed."""
        self._note(200, "", verb, resource, revision=revision, generation=generation)

    def refused(self, code: int, reason: str, resource: str) -> None:
        """An object of several was refused."""
        self._note(code, reason, REFUSED, resource)

    def ended(self, code: int) -> None:
        """The request was answered with ``code``."""
        if self.noted or self.dry:
            return
        if code < 400:
            self._note(code, "" if self.verb else UNCHANGED, self.verb, self.resource)
        else:
            self._note(code, self.reason or str(code), REFUSED, self.resource)

    def _note(self, code: int, reason: str, verb: str, resource: str, **more: int | None) -> None:
        self.noted += 1
        if not self.dry:
            self.recorder.note((self, code, reason, verb, resource, more))


@dataclass(frozen=True, slots=True)
class Wrote:
    """A change that no request asked for."""

    at: float
    manager: str
    verb: str
    resource: str
    more: dict[str, int | None]


class Book:
    """Where requests that write are noted."""

    def __init__(self, recorder: Recorder | None = None, now: Callable[[], float] = time.time) -> None:
        """``recorder`` None: nothing is kept."""
        self._recorder = recorder or Nowhere()
        self._now = now

    @property
    def full(self) -> bool:
        """Whether what is asked now leaves no record."""
        return self._recorder.full

    def asked(self, scope: Any) -> Asked:
        """A request that is to change something, by its ASGI scope."""
        client, path = scope.get("client"), scope["path"]
        return Asked(
            self._recorder,
            scope["method"],
            path,
            client[0] if client else "",
            scope["headers"],
            self._now,
            _resource(path),
            _within(),
        )

    def wrote(
        self, manager: str, verb: str, resource: str, *, revision: int | None = None, generation: int | None = None
    ) -> None:
        """Something was changed, or refused, that no request asked for: a row did, or what lies in a folder."""
        more = {"revision": revision, "generation": generation}
        self._recorder.note(Wrote(self._now(), manager, verb, resource, more))

    def lacking(self, reason: str, count: int, detail: str) -> None:
        """Something is missing in, or was refused to, another writer's chain."""
        self._recorder.note((self._now(), reason, count, detail))


def _within() -> dict[str, str]:
    at, request = tracing.current.get(), tracing.request_id.get()
    return ({} if at is None else {"trace": at.trace_id}) | ({"request": request} if request else {})


def _resource(path: str) -> str:
    """``Module/orders`` for the address of an object, ``Module`` for that of its kind."""
    plural, _, name = path.removeprefix(f"{names.API_PREFIX}/").partition("/")
    kind = kinds.BY_PLURAL.get(plural)
    return "" if kind is None else f"{kind.name}/{name}".rstrip("/")


def encode(entry: Any) -> Json:
    """A note as a record; runs in the recorder's thread."""
    if isinstance(entry, Wrote):
        refused = entry.verb == REFUSED
        return audit.record(
            kind=audit.CHANGE,
            at=audit.moment(entry.at),
            outcome=audit.ERROR if refused else audit.ALLOW,
            status=422 if refused else 200,
            reason=ROW_REJECTED if refused else DONE,
            verb=entry.verb,
            resource=entry.resource,
            manager=entry.manager,
            **entry.more,
        )
    if not isinstance(entry[0], Asked):
        at, reason, count, detail = entry
        return audit.record(kind="gap", at=audit.moment(at), reason=reason, count=count, detail=detail)
    asked, code, reason, verb, resource, more = entry
    caller = asked.caller
    outcome = audit.ALLOW if code < 400 else audit.DENY if code in _DENIED else audit.ERROR
    return audit.record(
        kind=audit.CHANGE,
        at=audit.moment(asked.at),
        outcome=outcome,
        status=code,
        reason=reason or DONE,
        verb=verb,
        resource=resource,
        subject=None if caller is None else caller.subject,
        issuer=None if caller is None else caller.issuer,
        organisation=None if caller is None else caller.organisation,
        manager=asked.manager,
        client=asked.client,
        method=asked.method,
        path=asked.path,
        **(asked.within | audit.carried(asked.headers)),
        **more,
    )
