"""Watch: every change of a kind behind a revision, in order, none twice and none missed, as lines of JSON.

    initial state (if asked for) ─▶ changes ─▶ a bookmark every 10 s ─▶ the end: timeout, shutdown, client gone

Always holds: a bookmark's revision is one up to which everything was sent; an object that leaves a selector is
DELETED for this watcher, one that enters it is ADDED; a revision that the log no longer has is an ERROR event with
a 410 ``Expired`` Status.  Source: Kubernetes API concepts, "Efficient detection of changes", and WatchList
(KEP-3157).  Opened by `controlplane.api.resources`; follows the store; `Watches.close` ends all at shutdown.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from controlplane import errors
from controlplane.api import answering, asking, finding, selecting
from controlplane.store import readings, stores
from controlplane.store.records import Change
from schemas import kinds
from schemas.kits.backoffs import jittered
from schemas.kits.clocks import Clock
from schemas.meta import Json
from schemas.names import API_VERSION

BOOKMARK_SECONDS: Final = 10.0
TIMEOUT_SECONDS: Final = 3600.0
"""A watch without ``timeoutSeconds`` ends after about this long, so that no connection lives for ever."""

INITIAL_END: Final = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Question:
    """What one watcher asked for."""

    kind: kinds.Kind
    selector: selecting.Selector
    form: asking.Form
    after: int | None
    """The revision that the client has seen; None: begin with the present state."""
    initial_end: bool
    """Whether the end of the initial state is to be marked."""
    bookmarks: bool
    timeout: float


class Watches:
    """Every open watch of this process."""

    def __init__(self, store: stores.Store, clock: Clock, source: Random | None = None) -> None:
        self._store = store
        self._clock = clock
        self._random = source or Random()  # noqa: S311 (spreads ends, guards nothing)
        self._closing = asyncio.Event()
        self.open_count = 0
        """How many are open now."""

    def close(self) -> None:
        """End every watch now and each later one at once: the server is shutting down."""
        self._closing.set()

    def open(self, request: Request, kind: kinds.Kind) -> "WatchResponse":
        """The stream that a request asks for."""
        initial_end = asking.flag(request, "sendInitialEvents")
        after = asking.resource_version(request)
        seconds = asking.number(request, "timeoutSeconds") or jittered(TIMEOUT_SECONDS, 0.2, self._random)
        question = Question(
            kind=kind,
            selector=asking.selector(request, kind),
            form=asking.form(request, kind, self._clock.now()),
            after=None if initial_end else after,
            initial_end=initial_end,
            bookmarks=asking.flag(request, "allowWatchBookmarks") or initial_end,
            timeout=float(seconds),
        )
        return WatchResponse(self, question)

    async def lines(self, question: Question) -> AsyncGenerator[bytes, None]:
        """The events of one watch, until it ends; never raises for what a client can cause."""
        stream = Stream(question, self._clock)
        try:
            async for chunk in self._events(stream):
                yield chunk
        except errors.StoreClosed:
            return
        except errors.ModplaneError as error:
            yield stream.line("ERROR", answering.status_of(error))

    async def _events(self, stream: "Stream") -> AsyncGenerator[bytes, None]:
        revision, initial = await self._store.read(stream.begin)
        if initial:
            yield initial
        async with contextlib.aclosing(self._changes(revision)) as changes:
            async for batch in _timed(changes, self._clock, stream.question.timeout, self._closing):
                if batch is None:
                    if stream.question.bookmarks:
                        yield stream.bookmark()
                elif chunk := stream.take(batch):
                    yield chunk

    async def _changes(self, after: int) -> AsyncGenerator[list[Change], None]:
        async for batch in self._store.follow(after=after):
            yield batch


class Stream:
    """What one watcher has been told so far; pure but for the clock."""

    def __init__(self, question: Question, clock: Clock) -> None:
        self.question = question
        self._clock = clock
        self._known: set[str] = set()
        """Uids that match as far as this watcher was told."""
        self._exact_from = 0
        """From this revision on, ``_known`` names every match; before it, a client may know more than we do."""
        self._revision = 0
        self._headed = False

    def begin(self, reading: readings.Reading) -> tuple[int, bytes]:
        """(the revision to follow from, what is to be sent first), on one snapshot."""
        question = self.question
        present = reading.revision
        if question.after is not None and question.after > present:
            raise errors.Compacted(present)
        matching = []
        if question.after is None or question.selector:
            few = finding.candidates(reading, question.kind, question.selector)
            records = reading.list(question.kind.name) if few is None else few
            documents = (record.document() for record in records)
            matching = [document for document in documents if question.selector.matches(document)]
        self._known = {document["metadata"]["uid"] for document in matching}
        self._exact_from = present
        if question.after is not None:
            self._revision = question.after
            return question.after, b""
        self._revision = present
        sent = [self.line("ADDED", self._object(document)) for document in matching]
        if question.initial_end:
            sent.append(self.bookmark(initial_end=True))
        return present, b"".join(sent)

    def take(self, changes: list[Change]) -> bytes:
        """The lines of a batch of changes of any kind."""
        lines = []
        for change in changes:
            self._revision = max(self._revision, change.revision)
            if change.kind == self.question.kind.name and (event := self._event(change)) is not None:
                lines.append(self.line(event, self._object(change.document)))
        return b"".join(lines)

    def bookmark(self, *, initial_end: bool = False) -> bytes:
        """How far this watcher has been told everything."""
        metadata: Json = {"resourceVersion": str(self._revision)}
        if initial_end:
            metadata["annotations"] = {INITIAL_END: "true"}
        document = {"apiVersion": API_VERSION, "kind": self.question.kind.name, "metadata": metadata}
        return self.line("BOOKMARK", self._object(document))

    def line(self, event: str, shown: Json) -> bytes:
        """One event as a line."""
        return answering.encode({"type": event, "object": shown}) + b"\n"

    def _event(self, change: Change) -> str | None:
        selector = self.question.selector
        if not selector:
            return change.type
        name = selector.value("metadata.name")
        if name is not None and name != change.name:
            return None
        known = change.uid in self._known or change.revision <= self._exact_from
        if change.type != "DELETED" and selector.matches(change.document):
            new = change.uid not in self._known
            self._known.add(change.uid)
            return "ADDED" if new or change.type == "ADDED" else "MODIFIED"
        self._known.discard(change.uid)
        return "DELETED" if known else None

    def _object(self, document: Json) -> Json:
        form = asking.Form(self.question.kind, self.question.form.table, self.question.form.include, self._now())
        shown = form.one(document, headed=not self._headed)
        self._headed = True
        return shown

    def _now(self) -> datetime:
        return self._clock.now()


class WatchResponse(Response):
    """A watch as an ASGI answer: streams until the source ends or the client goes."""

    def __init__(self, watches: Watches, question: Question) -> None:
        super().__init__(media_type="application/json")
        self._watches = watches
        self._question = question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the watch or the client ends."""
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        sending = asyncio.create_task(self._send(send), name="watch")
        leaving = asyncio.create_task(_left(receive), name="watch client")
        self._watches.open_count += 1
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watches.open_count -= 1
            gone = leaving.done()
            await _ended(sending, leaving)
        if not gone:
            sending.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._watches.lines(self._question)) as lines:
            async for chunk in lines:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _timed(
    changes: AsyncIterator[list[Change]], clock: Clock, timeout: float, closing: asyncio.Event
) -> AsyncGenerator[list[Change] | None, None]:
    """The batches of ``changes``; None each time a bookmark is due; ends at the timeout or when ``closing`` is set."""
    end = asyncio.create_task(clock.sleep(timeout), name="watch timeout")
    shut = asyncio.create_task(closing.wait(), name="watch shutdown")
    tick = asyncio.create_task(clock.sleep(BOOKMARK_SECONDS), name="watch bookmark")
    following = asyncio.ensure_future(anext(changes))
    try:
        while not (closing.is_set() or end.done()):
            await asyncio.wait({end, shut, tick, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                try:
                    batch = following.result()
                except StopAsyncIteration:
                    return
                following = asyncio.ensure_future(anext(changes))
                yield batch
            elif tick.done():
                tick = asyncio.create_task(clock.sleep(BOOKMARK_SECONDS), name="watch bookmark")
                yield None
    finally:
        await _ended(end, shut, tick, following)
