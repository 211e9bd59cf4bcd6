"""What one call may take of a worker, and what it may answer: the limits of a module, kept while it runs.

`Call` (a request) and `Conversation` (a WebSocket) stand between the server and a module.  Through them a body is
counted as it is received, an answer is looked at before its first byte leaves, and the one timer of the loop
(`Deadlines`) ends what takes too long: a request that was not answered in time with 504, a stream or WebSocket in which
nothing moves by cutting it.  Who was answered here is gone as far as the module is concerned: what it still says is
dropped.

Always: nothing that a module says reaches the wire unless it is one well-formed answer.  A caller that leaves is no
fault of the module, also when the module learns of it by an exception that it lets pass.  A call whose thread still
works keeps its place until the thread is done, since a thread cannot be ended.  Limits are those of the `Served` that
the call began with.  Used by `dataplane.gateway.entering`; on the serving loop only.

Source: RFC 6455 section 7.4 (how a WebSocket ends).
"""

import asyncio
import contextvars
import math
from collections.abc import Awaitable
from typing import Any, Final

import anyio.to_thread
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from dataplane.gateway import answering, framing
from dataplane.gateway.serving import Target
from dataplane.telemetry import meters
from schemas.kits.clocks import Clock
from schemas.kits.tasks import Tasks
from schemas.module import Limits

logger = structlog.get_logger("dataplane.gateway.limiting")

TICK_SECONDS: Final = 0.1
"""How late a deadline may be kept."""
_PATIENCE_SECONDS: Final = 10.0
"""How long a handler may go on once its caller was answered here, and again once it is cancelled."""

_NEVER: Final = math.inf

RETRY_AFTER: Final = ((b"retry-after", b"1"),)
"""Goes with 503 for a module that has all the calls that it may have."""

NO_ANSWER: Final = (502, "the module ended without an answer")
_NOT_HTTP: Final = "the module's answer is not valid HTTP; its operator finds the reason in the worker's log"
_GOING_AWAY, _TOO_BIG, _FAILED = 1001, 1009, 1011
_LEFT: Final = 499
"""As what a caller counts that left before it was answered; there is no such status, web servers write this one."""

UNANSWERED, HELD, ANSWERING, ANSWERED, ENDED, STOPPED = range(6)
"""Where a call stands.  HELD: the module declared a length, and nothing is sent until its first bytes agree with it.
ENDED: answered or cut off here, not by the module; STOPPED: and its task was cancelled from here."""


class Gone(OSError):  # noqa: N818 - the same
    """The caller has its answer already, or has left: what a module gets that goes on sending."""


class Deadlines:
    """Every call that is inside a module, and the one timer that ends those which are over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: set[Call] = set()
        self._ending = Tasks(clock)
        self._watching: asyncio.Task[None] | None = None
        self.now = clock.monotonic
        self.resting = True
        """Whether the timer is to be woken when a call begins."""
        self.enter = self._calls.add
        """A call begins."""
        self.leave = self._calls.discard
        """A call is done."""

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._calls)

    def wake(self) -> None:
        """Let the timer run for as long as there are calls."""
        self.resting = False
        # not in the context of the request that happens to be the first
        self._watching = asyncio.get_running_loop().create_task(
            self._watch(), name="deadlines", context=contextvars.Context()
        )

    async def _watch(self) -> None:
        try:
            await self._clock.sleep(TICK_SECONDS)
            while self._calls:
                self._end_those_over()
                await self._clock.sleep(TICK_SECONDS)
        finally:
            self.resting = True

    def _end_those_over(self) -> None:
        now = self.now()
        for call in [call for call in self._calls if call.due <= now]:
            call.due = _NEVER
            self._ending.start(call.expire(), f"end {call.target.served.name} {call.target.template}")


class Call:
    """One HTTP request inside a module."""

    # of `_held` and `_left` nobody asks before the answer begins
    __slots__ = ("_counted", "_deadlines", "_done", "_entered", "_gone", "_held", "_late", "_left", "_meter",
                 "_receive", "_said", "_send", "_sent", "_taken", "begun", "due", "limits", "scope", "stage", "started",
                 "status", "target", "task", "turn")  # fmt: skip

    _held: Message
    _left: int

    def __init__(
        self,
        deadlines: Deadlines,
        limits: Limits,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
        task: asyncio.Task[Any],
        meter: meters.Meter,
        entered: float,
    ) -> None:
        """``entered``: when the gateway got it, by the monotonic clock; ``meter`` counts it."""
        self._deadlines = deadlines
        self._meter = meter
        self._entered = entered
        meter.inside += 1
        self._done = _NEVER
        self._late = False
        self._gone = False
        """Whether the module was told that the caller has left."""
        self._said = 0
        """The status of the module's answer, once that began."""
        self._sent = 0
        self.limits = limits
        self.target = target
        self.scope = scope
        self._receive = receive
        self._send = send
        self.task = task
        self.started = deadlines.now()
        """When it began, by the monotonic clock."""
        self.begun = 0.0
        """When its answer began, where it was sent in pieces; 0: as a whole, or not at all."""
        self.status = 0
        """Of the answer; 0: there is none (yet), or none that says anything."""
        self.due: float = self.started + limits.timeout_seconds
        """When it is over, by the monotonic clock."""
        self.stage = UNANSWERED
        self.turn = 0
        """Under which turn of the module's circuit it was let through; 0: that is closed."""
        self._counted = False
        self._taken = 0
        deadlines.enter(self)
        if deadlines.resting:
            deadlines.wake()

    async def receive(self) -> Message:
        """The next message for the module; over its limit the caller gets 413, and the module that the caller left.

        Once the module answers, what is too much is only not handed over.
        """
        most = self.limits.max_body_bytes
        if self._taken or self.stage > HELD or _declared(self.scope) <= most:
            while self.stage < ENDED:
                message = await self._receive()
                if message["type"] != "http.request":
                    self._gone = True
                    return message
                self._taken += len(message.get("body", b""))
                if self._taken <= most:
                    return message
                if self.stage <= HELD:
                    break
        if self.stage < ENDED:
            await self.end(413, f"the body is larger than the {most} bytes that this module takes")
        return {"type": "http.disconnect"}

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the module says if it is one well-formed answer; 502 for the caller if it is not."""
        stage = self.stage
        kind = message["type"]
        if stage == UNANSWERED and kind == "http.response.start":
            return self._start(message)
        if kind == "http.response.body" and HELD <= stage <= ANSWERING:
            if stage == HELD and not message.get("more_body") and len(message.get("body", b"")) == self._left:
                # nearly every answer: one piece, as long as it says
                self._sent = self._left
                self._done = self._deadlines.now()
                self.stage = ANSWERED
                self.due = _NEVER
                return self._both(self._held, message)
            return self._body(message)
        return self._send(message) if stage < ENDED else _gone()

    def _start(self, message: Message) -> Awaitable[None]:
        try:
            length = framing.length_of(message)
        except framing.Illegal as fault:
            return self._refuse(str(fault))
        self.status = self._said = message["status"]
        if length >= 0 and self.scope["method"] != "HEAD":
            self.stage = HELD
            self._left = length
            self._held = message
            return _nothing()
        self.stage = ANSWERING
        self._left = -1
        self.begun = self._deadlines.now()
        self.due = self.begun + self.limits.idle_timeout_seconds
        return self._send(message)

    def _body(self, message: Message) -> Awaitable[None]:
        more = message.get("more_body", False)
        left = self._left
        size = len(message.get("body", b""))
        self._sent += size
        if left >= 0:
            if size != left and (size > left or not more):
                return self._refuse(f"its body is {'longer' if size > left else 'shorter'} than its Content-Length")
            self._left = left - size
        held = self.stage == HELD
        if more:
            self.stage = ANSWERING
            now = self._deadlines.now()
            self.begun = self.begun or now
            self.due = now + self.limits.idle_timeout_seconds
        else:
            self.stage = ANSWERED
            self._done = self._deadlines.now()
            self.due = _NEVER
        return self._both(self._held, message) if held else self._send(message)

    async def _both(self, start: Message, body: Message) -> None:
        await self._send(start)
        await self._send(body)

    async def _refuse(self, fault: str) -> None:
        """The module's answer is none: 502 if the caller heard nothing yet, else the connection ends."""
        self._tell("answer refused", fault=fault)
        await self.end(502, _NOT_HTTP)
        raise Gone(f"the answer was refused: {fault}")

    def silent(self) -> bool:
        """Whether the module may still begin an answer."""
        return self.stage == UNANSWERED

    async def end(self, status: int, detail: str) -> None:
        """Answer instead of the module, if its answer has not begun; the module is not heard any more."""
        silent = self.stage <= HELD
        self.stage = ENDED
        self.due = self._deadlines.now() + _PATIENCE_SECONDS
        if silent:
            self.status = status
            await self._answer(status, detail)

    def is_left(self, error: BaseException) -> bool:
        """Whether what the module raised says no more than that its caller has left, which is true."""
        return self._gone and _says_left(error)

    def leave(self) -> None:
        """The caller left before the module was done: that says nothing about the module."""
        self.status = 0
        if self._done == _NEVER or self._said >= 500:  # 500: FastAPI's own answer to the exception
            self._said = _LEFT

    async def fail(self) -> None:
        """The module raised: 500, unless its answer has begun."""
        self.status = 500
        if self.stage <= HELD:
            await self.end(500, answering.CRASHED)

    def count(self) -> None:
        """How it ended is known: tell it, once."""
        if not self._counted:
            self._counted = True
            now = self._deadlines.now()
            self.target.served.pulse.ended(self.status, (self.begun or now) - self.started, now, self.turn)
            meter = self._meter
            meter.inside -= 1
            done = self._done if self._done < now else now
            meter.ended(self._entered, done, self._outcome(), self._taken, self._sent)

    def _outcome(self) -> int:
        """What became of it, as it is counted; an answer that began is not changed by what its handler does then."""
        if self._late:
            return meters.TIMEOUT
        status = self._said if self._done < _NEVER else self.status or self._said
        if 200 <= status < 400:
            return meters.SUCCESS
        return meters.CLIENT_ERROR if 400 <= status < 500 else meters.SERVER_ERROR

    async def _answer(self, status: int, detail: str) -> None:
        await answering.problem(self.scope, self._receive, self._send, status, detail)

    async def expire(self) -> None:
        """Its time is over: end it, and its task too as soon as no thread works for it."""
        self._late = self._late or self.stage <= ANSWERING
        if self.stage <= HELD:
            self._tell("request timed out", seconds=self.limits.timeout_seconds)
            await self.end(504, f"the module did not answer within {self.limits.timeout_seconds:g} s")
            self.count()  # its thread may go on for ever
        elif self.stage == ANSWERING:
            self._tell("nothing moved, cut off", seconds=self.limits.idle_timeout_seconds)
            await self._cut()
        elif self.stage == STOPPED:
            self._tell("handler ignores its cancellation")
            return
        if self.task in anyio.to_thread.current_default_thread_limiter().statistics().borrowers:
            self.due = self._deadlines.now() + TICK_SECONDS
        else:
            self.stage = STOPPED
            self.task.cancel()
            self.due = self._deadlines.now() + _PATIENCE_SECONDS

    async def _cut(self) -> None:
        await self.end(504, "")

    def _tell(self, event: str, **more: Any) -> None:
        served = self.target.served
        logger.warning(event, module=served.name, generation=served.generation, route=self.target.template, **more)


class Conversation(Call):
    """One WebSocket inside a module."""

    __slots__ = ()

    def silent(self) -> bool:
        """A WebSocket may be closed at any time."""
        return True

    async def receive(self) -> Message:
        """The next message for the module; one that is too large ends the conversation with 1009."""
        message = await self._receive()
        if message["type"] != "websocket.receive" or self.stage != ANSWERING:
            self._gone = message["type"] == "websocket.disconnect"
            return message if self.stage < ENDED else {"type": "websocket.disconnect", "code": 1006}
        self.due = self._deadlines.now() + self.limits.idle_timeout_seconds
        size = _size(message)
        self._taken += size
        if size <= self.limits.max_body_bytes:
            return message
        await self._close(_TOO_BIG, f"a message may have {self.limits.max_body_bytes} bytes")
        return {"type": "websocket.disconnect", "code": _TOO_BIG}

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the module says; an acceptance or a denial must be well-formed."""
        if self.stage >= ENDED:
            return _gone()
        match message["type"]:
            case "websocket.send":
                self._sent += _size(message)
                self.due = self._deadlines.now() + self.limits.idle_timeout_seconds
            case "websocket.accept" | "websocket.http.response.start" as kind:
                try:
                    if kind == "websocket.accept":
                        framing.check_acceptance(message)
                        self._said = 200
                    else:
                        framing.length_of(message)
                        self._said = message["status"]
                except framing.Illegal as fault:
                    return self._refuse(str(fault))
                self.stage = ANSWERING
                self.due = self._deadlines.now() + self.limits.idle_timeout_seconds
            case "websocket.close":
                self._said = self._said or 403
                self._done = self._deadlines.now()
                self.stage = ANSWERED
                self.due = _NEVER
            case "websocket.http.response.body" if not message.get("more_body", False):
                self._done = self._deadlines.now()
                self.stage = ANSWERED
                self.due = _NEVER
        return self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:
            self._gone = True
            raise Gone("the caller has left") from error

    def leave(self) -> None:
        """The caller left, as every WebSocket ends some time."""
        self._said = self._said or _LEFT

    async def fail(self) -> None:
        """The module raised: 500 before it accepted, else 1011."""
        self._said = 500
        if self.stage == ANSWERING:
            await self._close(_FAILED, "")
        else:
            await super().fail()

    async def _answer(self, status: int, detail: str) -> None:
        body = answering.document(status, detail, self.scope["path"])
        await answering.deny(self.scope, self._send, body, status)

    async def _cut(self) -> None:
        await self._close(_GOING_AWAY, "idle")

    async def _close(self, code: int, reason: str) -> None:
        self.stage = ENDED
        self.due = self._deadlines.now() + _PATIENCE_SECONDS
        await answering.close(self._send, code, reason)


def _declared(scope: Scope) -> int:
    """The body length that a request's header declares; 0 if none does."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if framing.is_length(value) else 0
    return 0


def _size(message: Message) -> int:
    data = message.get("bytes")
    return len(data if data is not None else message.get("text", "").encode())


def _says_left(error: BaseException) -> bool:
    """Whether an exception, or all of a group, is how a caller's leaving is told to a handler."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_says_left, error.exceptions))
    return isinstance(error, WebSocketDisconnect | ClientDisconnect | Gone)


async def _nothing() -> None:
    """Sends nothing yet."""


async def _gone() -> None:
    raise Gone("the caller has an answer already")
