"""The ASGI application of a worker: one canonical path, one look at the snapshot, then the module or our own answer.

A request under ``/api/v1/modules/{version}/{namespace}/`` goes: path check → snapshot → matcher → trouble → gate
(`dataplane.gateway.deciding`: who calls, and may they) → the module's own application, with the whole path,
``root_path`` up to the namespace and a copy of the module's lifespan state.  Everything else is a host page
(`dataplane.gateway.pages`).

Always: whether a module answers, which route, and under which policy is decided here, before any module code runs;
an exception of a module ends here.  The hot path allocates the scope copy and nothing else worth naming.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from starlette.types import Receive, Scope, Send

from dataplane.gateway import (
    answering,
    auditing,
    authenticating,
    authorising,
    deciding,
    hosting,
    limiting,
    paths,
    reaching,
)
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.serving import Served, Target
from dataplane.gateway.snapshots import Namespace, Snapshot
from dataplane.gateway.standing import Standing
from dataplane.runtime import sharing
from dataplane.sdk import calling, switching
from dataplane.telemetry import meters, tracing
from schemas import names
from schemas.kits.clocks import Clock, SystemClock
from schemas.paths import WEBSOCKET

logger = structlog.get_logger("dataplane.gateway.dispatching")

Pages = Callable[[Scope, Receive, Send, str], Awaitable[bool]]
"""Answers a host page by its path and says whether there is one."""

_PREFIX = f"{names.MODULES_PREFIX}/"
_START = len(_PREFIX)
_HEALTH = "/health"
_DESCRIPTIONS = frozenset({"/openapi.json", "/docs"})
"""Of one namespace: the host's pages, narrowed to its modules, unless a module has such a route itself."""
_UNKEPT = "the audit trail of this worker has no room, and this route is not served without its record; try again"


class Dispatcher:
    """Pure ASGI: no framework stands between the server and a module."""

    def __init__(
        self,
        host: hosting.Host,
        pages: Pages,
        clock: Clock | None = None,
        gate: deciding.Gate | None = None,
        trail: auditing.Trail | None = None,
    ) -> None:
        """``gate`` None: nobody is believed, so only open routes answer.  ``trail`` None: decisions are not kept."""
        self._host = host
        self._pages = pages
        self._gate = gate or deciding.closed(clock or SystemClock())
        self._deadlines = limiting.Deadlines(clock or SystemClock())
        self._trail = trail or auditing.Trail()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request or WebSocket."""
        tracing.current.set(scope)
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if not paths.is_plain(raw) and (reason := paths.refusal(raw)) is not None:
            self._strayed(scope)
            await answering.problem(scope, receive, send, 400, reason)
            return
        root: str = scope.get("root_path", "")
        path: str = scope["path"]
        if root and path.startswith(root):
            path = path[len(root) :]
        if not path.startswith(_PREFIX):
            if not await self._pages(scope, receive, send, path):
                self._strayed(scope)
                await answering.problem(scope, receive, send, 404, "there is no such page on this worker")
            return
        middle = path.find("/", _START)
        end = path.find("/", middle + 1) if middle > 0 else -1
        key = (path[_START:middle], path[middle + 1 : end] if end > 0 else path[middle + 1 :])
        snapshot = self._host.snapshot
        namespace = snapshot.table.get(key)
        if namespace is None:
            self._strayed(scope)
            await answering.problem(scope, receive, send, 404, "no module serves this version and namespace")
            return
        route_path = path[end:] if end > 0 else ""
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        target = namespace.matcher.find(method, route_path) if route_path != _HEALTH else None  # ours, templates or not
        if target is None:
            await _unmatched(scope, receive, send, namespace, route_path, self._deadlines.now())
            return
        if tracing.SPAN in scope:
            _reached(scope[tracing.SPAN], target)
        meter, began = target.methods[method], self._deadlines.now()
        if (trouble := target.served.trouble) is not None:
            self._trail.failed(scope, target, trouble.reason)
            meter.ended(began, began, meters.REFUSED)
            await _troubled(scope, receive, send, target.served)
        elif target.requirement is None:
            await _run(
                scope, receive, send, target, root, self._deadlines, self._trail, snapshot.standing, None, meter, began
            )
        else:
            await self._guarded(scope, receive, send, target, target.requirement, root, snapshot, meter, began)

    async def _guarded(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        target: Target,
        asked: Requirement,
        root: str,
        snapshot: Snapshot,
        meter: meters.Meter,
        began: float,
    ) -> None:
        begun = tracing.begin(scope)
        verdict = self._gate.known(scope, asked, snapshot) or await self._gate.learn(scope, asked, snapshot)
        if begun:
            scope[tracing.SPAN].authenticated(begun, verdict.status)
        if verdict.status == 200:
            if asked.tenancy and verdict.principal is not None:
                self._host.accesses.count((verdict.principal.organisation or "", asked.module))
            await _run(
                scope,
                receive,
                send,
                target,
                root,
                self._deadlines,
                self._trail,
                snapshot.standing,
                verdict,
                meter,
                began,
            )
        else:
            self._trail.decided(scope, target, verdict)
            meter.ended(began, self._deadlines.now(), meters.REFUSED)
            await _refused(scope, receive, send, verdict, self._gate.challenges)

    def _strayed(self, scope: Scope) -> None:
        """Count a call to an address that is no module's."""
        now = self._deadlines.now()
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        self._host.book.stray[method].ended(now, now, meters.CLIENT_ERROR)


def _reached(call: tracing.Call, target: Target) -> None:
    served = target.served
    call.reach(served.name, served.desired.version, served.generation, served.prefix + target.template)


async def _refused(
    scope: Scope, receive: Receive, send: Send, verdict: Verdict, challenges: authenticating.Challenges
) -> None:
    """401 or 403: what a caller may know; why is the operator's to know."""
    if verdict.status == 403:
        await answering.problem(scope, receive, send, 403, "this caller may not call this route", challenges.forbidden)
    elif verdict.reason == authorising.NO_CREDENTIALS:
        await answering.problem(scope, receive, send, 401, "this route needs a token", challenges.missing)
    else:
        await answering.problem(scope, receive, send, 401, "the token is not valid here", challenges.invalid)


async def _run(
    scope: Scope,
    receive: Receive,
    send: Send,
    target: Target,
    root: str,
    deadlines: limiting.Deadlines,
    trail: auditing.Trail,
    standing: Standing,
    verdict: Verdict | None,
    meter: meters.Meter,
    began: float,
) -> None:
    served = target.served
    limits = served.desired.limits
    if len(served.tasks) >= limits.max_concurrency or (trail.full and target.policy.admin):
        meter.ended(began, deadlines.now(), meters.REFUSED)
        await _kept_out(scope, receive, send, target, trail, verdict)
        return
    if (turn := served.pulse.admit(deadlines.now, scope["type"])) is None:
        meter.ended(began, deadlines.now(), meters.REFUSED)
        trail.failed(scope, target, auditing.BROKEN, verdict)
        await _broken(scope, receive, send, served, deadlines.now())
        return
    trail.entered(scope, target, verdict)
    app = served.app
    assert app is not None, "a module without trouble has its application"
    inner = dict(scope)
    inner["root_path"] = root + served.prefix
    inner["state"] = served.state.copy()
    inner[reaching.ROUTE] = target.route
    inner[switching.FLAGS] = standing.flags
    if verdict is not None:
        inner[calling.PRINCIPAL] = verdict.principal
        inner[switching.CONFIGURATION] = verdict.configuration
    task = asyncio.current_task()
    assert task is not None, "a request runs in a task"
    kind = limiting.Call if scope["type"] == "http" else limiting.Conversation
    call = kind(deadlines, limits, target, scope, receive, send, task, meter, began)
    call.turn = turn
    served.tasks.add(task)
    token = sharing.current.set(served.share)
    recorded: tracing.Call | None = scope.get(tracing.SPAN)
    begun = 0 if recorded is None else recorded.handle()
    try:
        await app(inner, call.receive, call.send)
        if call.stage <= limiting.HELD:
            await call.end(*limiting.NO_ANSWER)
    except asyncio.CancelledError:
        if call.stage != limiting.STOPPED:
            if scope["type"] == "websocket":
                await answering.close(send, 1012)
            raise
        task.uncancel()
    except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the worker either
        await _failed(call, error)
    finally:
        sharing.current.reset(token)
        if recorded is not None:
            recorded.handled(begun)
        deadlines.leave(call)
        served.inside.left(task)
        call.count()


async def _failed(call: limiting.Call, error: BaseException) -> None:
    """A module's exception has gone through its own handlers: log it once; the caller has, or now gets, an answer."""
    if call.stage >= limiting.ENDED:
        return  # the caller has an answer that is not the module's, and the log has its reason
    logger.error(
        "handler failed",
        module=call.target.served.name,
        generation=call.target.served.generation,
        route=call.target.template,
        exc_info=error,
    )
    await call.fail()


async def _kept_out(
    scope: Scope, receive: Receive, send: Send, target: Target, trail: auditing.Trail, verdict: Verdict | None
) -> None:
    """There is no room for one more call, or none for the record that has to be kept of it."""
    if len(target.served.tasks) >= target.served.desired.limits.max_concurrency:
        trail.failed(scope, target, auditing.CROWDED, verdict)
        await _crowded(scope, receive, send, target.served)
    else:
        trail.failed(scope, target, auditing.UNKEPT, verdict)
        await answering.problem(scope, receive, send, 503, _UNKEPT, limiting.RETRY_AFTER, retryable=True)


async def _crowded(scope: Scope, receive: Receive, send: Send, served: Served) -> None:
    most = served.desired.limits.max_concurrency
    detail = f"module {served.name} has {most} calls on this worker, as many as it may; try again"
    await answering.problem(scope, receive, send, 503, detail, limiting.RETRY_AFTER, retryable=True)


async def _broken(scope: Scope, receive: Receive, send: Send, served: Served, now: float) -> None:
    wait = served.pulse.breaker.retry_after(now)
    detail = f"most calls of module {served.name} fail on this worker, so it is given a rest; try again in {wait} s"
    headers = ((b"retry-after", str(wait).encode()),)
    await answering.problem(scope, receive, send, 503, detail, headers, retryable=True)


async def _troubled(scope: Scope, receive: Receive, send: Send, served: Served) -> None:
    trouble = served.trouble
    assert trouble is not None, "called for a module in trouble"
    headers = ((b"retry-after", b"5"),) if trouble.retryable else ()
    detail = f"module {served.name} cannot serve on this worker: {trouble.reason}"
    await answering.problem(scope, receive, send, 503, detail, headers, retryable=trouble.retryable)


async def _unmatched(scope: Scope, receive: Receive, send: Send, namespace: Namespace, path: str, began: float) -> None:
    """No route answers: the namespace's health, 405 with Allow, a redirect to the other slash form, or 404."""
    http = scope["type"] == "http"
    if http and path == _HEALTH:
        await _health(scope, receive, send, namespace)
        return
    allowed = namespace.matcher.allowed(path) if http else []
    if http and not allowed and path in _DESCRIPTIONS:
        await _described(scope, send, namespace, path)
        return
    method = scope["method"] if http else WEBSOCKET
    namespace.members[0].other[method].ended(began, began, meters.CLIENT_ERROR)
    if allowed:
        detail = f"{scope['method']} is not allowed here; allowed: {', '.join(allowed)}"
        await answering.problem(scope, receive, send, 405, detail, [(b"allow", ", ".join(allowed).encode())])
        return
    other = paths.with_other_slash(path)
    if http and path != "/" and other and namespace.matcher.allowed(other):
        await answering.redirect(scope, send, paths.raw_with_other_slash(scope["raw_path"]))
        return
    await answering.problem(scope, receive, send, 404, "no route of this namespace has this path")


async def _described(scope: Scope, send: Send, namespace: Namespace, page: str) -> None:
    """The place where the host describes exactly the modules of this namespace."""
    modules = "&".join(f"module={member.name}" for member in namespace.members)
    location = f"{scope.get('root_path', '')}{page}?{modules}".encode()
    await answering.respond(send, 307, b"", headers=[(b"location", location)])


async def _health(scope: Scope, receive: Receive, send: Send, namespace: Namespace) -> None:
    if scope["method"] not in {"GET", "HEAD"}:
        await answering.problem(scope, receive, send, 405, "allowed: GET, HEAD", [(b"allow", b"GET, HEAD")])
    elif namespace.healthy:
        await answering.answer_json(send, {"status": "healthy"})
    else:
        await answering.answer_json(send, {"status": "unhealthy"}, 503)
