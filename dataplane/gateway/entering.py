"""From a route to the module's own application and out again: who calls, is there room, the run, and its end.

    Visit ─▶ trouble? ─▶ gate (`deciding`) ─▶ room? ─▶ circuit? ─▶ the module's application ─▶ counted, recorded

The module gets the whole path, ``root_path`` up to the namespace, and a copy of its lifespan state.  Always: no module
code runs before its policy was asked; every visit ends in one answer, one count and, where callers are asked for
something, one record; an exception of a module ends here.  Called by `dataplane.gateway.dispatching`, on the serving
loop only.
"""

import asyncio
from collections.abc import Awaitable

import structlog
from starlette.types import Receive, Scope, Send

from dataplane.gateway import answering, auditing, authenticating, authorising, counting, deciding, limiting
from dataplane.gateway.authorising import Requirement, Verdict
from dataplane.gateway.serving import Target, Trouble
from dataplane.gateway.snapshots import Snapshot
from dataplane.runtime import sharing
from dataplane.sdk import calling, switching
from dataplane.telemetry import meters, tracing
from schemas.module import CircuitState

logger = structlog.get_logger("dataplane.gateway.entering")

_UNKEPT = "the audit trail of this worker has no room, and this route is not served without its record; try again"


class Visit:
    """One request or WebSocket that has found its route."""

    __slots__ = ("began", "carried", "meter", "receive", "root", "scope", "send", "snapshot", "target", "verdict")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        root: str,
        snapshot: Snapshot,
        target: Target,
        meter: meters.Meter,
        began: float,
    ) -> None:
        """``root``: the server's own ``root_path``; ``began``: when we got it, by the monotonic clock."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self.root = root
        self.snapshot = snapshot
        self.target = target
        self.meter = meter
        self.began = began
        self.carried: authenticating.Carried | None = None
        """Of the request's headers, what its record tells; None: they were not looked at."""
        self.verdict: Verdict | None = None
        """None: nobody was asked for anything."""


class Entrance:
    """Lets visits into modules."""

    def __init__(
        self,
        gate: deciding.Gate,
        deadlines: limiting.Deadlines,
        trail: auditing.Trail,
        accesses: counting.Accesses,
    ) -> None:
        self._gate = gate
        self._deadlines = deadlines
        self._trail = trail
        self._accesses = accesses

    def receive(self, visit: Visit) -> Awaitable[None]:
        """Answer one visit."""
        target = visit.target
        if target.served.trouble is not None:
            return self._turn_away(visit, target.served.trouble)
        if target.requirement is None:
            return self._enter(visit)
        begun = tracing.begin(visit.scope)
        shown, visit.carried = authenticating.read(visit.scope)
        verdict = self._gate.known(shown, target.requirement, visit.snapshot)
        if verdict is None:
            return self._learn(visit, target.requirement, shown, begun)
        return self._judge(visit, target.requirement, verdict, begun)

    async def _turn_away(self, visit: Visit, trouble: Trouble) -> None:
        """From a module that cannot serve."""
        self._trail.failed(visit.scope, visit.target, trouble.reason)
        visit.meter.ended(visit.began, visit.began, meters.REFUSED)
        headers = ((b"retry-after", b"5"),) if trouble.retryable else ()
        detail = f"module {visit.target.served.name} cannot serve on this worker: {trouble.reason}"
        await _problem(visit, 503, detail, headers, retryable=trouble.retryable)

    async def _learn(self, visit: Visit, asked: Requirement, shown: tuple[bytes, ...], begun: int) -> None:
        """Find out who calls, which may take some waiting."""
        verdict = await self._gate.learn(shown, asked, visit.snapshot)
        await self._judge(visit, asked, verdict, begun)

    def _judge(self, visit: Visit, asked: Requirement, verdict: Verdict, begun: int) -> Awaitable[None]:
        """Let in who may, and answer who may not; ``begun``: when the question was asked, 0 if nobody records that."""
        visit.verdict = verdict
        if begun:
            visit.scope[tracing.SPAN].authenticated(begun, verdict.status)
        if verdict.status != 200:
            self._trail.decided(visit.scope, visit.target, verdict, visit.carried)
            visit.meter.ended(visit.began, self._deadlines.now(), meters.REFUSED)
            return self._refuse(visit, verdict)
        if asked.tenancy and verdict.principal is not None:
            self._accesses.count((verdict.principal.organisation or "", asked.module))
        return self._enter(visit)

    async def _refuse(self, visit: Visit, verdict: Verdict) -> None:
        """401 or 403: what a caller may know; why is the operator's to know."""
        challenges = self._gate.challenges
        if verdict.status == 403:
            await _problem(visit, 403, "this caller may not call this route", challenges.forbidden)
        elif verdict.reason == authorising.NO_CREDENTIALS:
            await _problem(visit, 401, "this route needs a token", challenges.missing)
        else:
            await _problem(visit, 401, "the token is not valid here", challenges.invalid)

    def _enter(self, visit: Visit) -> Awaitable[None]:
        """Where there is room, and the module's circuit lets it through."""
        target, trail, turn = visit.target, self._trail, 0
        served = target.served
        if len(served.tasks) >= served.desired.limits.max_concurrency:
            return self._keep_out(visit, auditing.CROWDED)
        if target.policy.admin and trail.full:
            return self._keep_out(visit, auditing.UNKEPT)
        if served.pulse.breaker.state is not CircuitState.CLOSED:
            turn = served.pulse.admit(self._deadlines.now(), visit.scope["type"])
            if not turn:
                return self._keep_out(visit, auditing.BROKEN)
        if visit.verdict is not None:
            trail.decided(visit.scope, target, visit.verdict, visit.carried)
        elif trail.opened:
            trail.entered(visit.scope, target)
        return self._run(visit, turn)

    async def _keep_out(self, visit: Visit, reason: str) -> None:
        served, now = visit.target.served, self._deadlines.now()
        visit.meter.ended(visit.began, now, meters.REFUSED)
        self._trail.failed(visit.scope, visit.target, reason, visit.verdict)
        headers = limiting.RETRY_AFTER
        if reason == auditing.CROWDED:
            most = served.desired.limits.max_concurrency
            detail = f"module {served.name} has {most} calls on this worker, as many as it may; try again"
        elif reason == auditing.UNKEPT:
            detail = _UNKEPT
        else:
            wait = served.pulse.breaker.retry_after(now)
            detail = (
                f"most calls of module {served.name} fail on this worker, so it is given a rest; try again in {wait} s"
            )
            headers = ((b"retry-after", str(wait).encode()),)
        await _problem(visit, 503, detail, headers, retryable=True)

    async def _run(self, visit: Visit, turn: int) -> None:
        scope, served = visit.scope, visit.target.served
        way = served.way
        assert way is not None, "a module without trouble has its application"
        task = asyncio.current_task()
        assert task is not None, "a request runs in a task"
        inner = _inner(visit)
        kind = limiting.Call if scope["type"] == "http" else limiting.Conversation
        call = kind(
            self._deadlines, served.desired.limits, visit.target, scope, visit.receive, visit.send, task, visit.meter,
            visit.began,
        )  # fmt: skip
        call.turn = turn
        served.tasks.add(task)
        token = sharing.current.set(served.share)
        recorded: tracing.Call | None = scope.get(tracing.SPAN)
        begun = 0 if recorded is None else recorded.handle()
        try:
            await way.go(visit.target.route, inner, call.receive, call.send, call.silent)
            if call.stage <= limiting.HELD:
                await call.end(*limiting.NO_ANSWER)
        except asyncio.CancelledError:
            if call.stage != limiting.STOPPED:
                if scope["type"] == "websocket":
                    await answering.close(visit.send, 1012)
                raise
            task.uncancel()
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler must not end the worker either
            await _failed(call, error)
        finally:
            sharing.current.reset(token)
            if recorded is not None:
                recorded.handled(begun)
            self._deadlines.leave(call)
            served.inside.left(task)
            call.count()


def _inner(visit: Visit) -> Scope:
    """The scope as the module sees it."""
    served, standing, verdict = visit.target.served, visit.snapshot.standing, visit.verdict
    inner = dict(visit.scope)
    inner["root_path"] = visit.root + served.prefix
    inner["state"] = served.state.copy()
    inner[switching.FLAGS] = standing.flags
    if verdict is not None:
        inner[calling.PRINCIPAL] = verdict.principal
        inner[switching.CONFIGURATION] = verdict.configuration
    return inner


async def _failed(call: limiting.Call, error: BaseException) -> None:
    """A module's exception has gone through its own handlers: log it once; the caller has, or now gets, an answer."""
    if call.stage >= limiting.ENDED:
        return  # the caller has an answer that is not the module's, and the log has its reason
    if call.is_left(error):
        call.leave()
        return
    logger.error(
        "handler failed",
        module=call.target.served.name,
        generation=call.target.served.generation,
        route=call.target.template,
        exc_info=error,
    )
    await call.fail()


async def _problem(
    visit: Visit, status: int, detail: str, headers: answering.Headers = (), *, retryable: bool = False
) -> None:
    await answering.problem(visit.scope, visit.receive, visit.send, status, detail, headers, retryable=retryable)
