"""A module with FastAPI's documented behaviours, one route or a few for each; hosted, and run plain beside it."""

import asyncio
import enum
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware import Middleware
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBasicCredentials, HTTPBearer, OAuth2PasswordBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

HERE = Path(__file__)


class Teapot(Exception):  # noqa: N818 - what a module author might write
    """Handled by the module's own handler."""


class Turned(Exception):  # noqa: N818 - the same
    """Its handler raises another one."""


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str
    price: Decimal = Decimal("1.5")
    tags: list[str] = []
    colour: Colour = Colour.RED
    secret: str | None = None


class PublicItem(BaseModel):
    name: str
    price: Decimal = Decimal("1.5")
    note: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool


class Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = Field(10, gt=0, le=100)
    order: Literal["up", "down"] = "up"


class Stamp:
    """Plain ASGI middleware."""

    def __init__(self, app: ASGIApp, value: str) -> None:
        self._app = app
        self._value = value

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", self._value.encode())]
            await send(message)

        await self._app(scope, receive, stamped)


class Timed(APIRoute):
    """A route class of the author's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await handler(request)
            response.headers["x-timed"] = request.url.path.rsplit("/", 1)[-1]
            return response

        return handle


def open_to_all(handler: Any) -> Any:
    return require_module_auth("NONE")(handler)


class Behaviours(BaseModuleRouter):
    """Every group of behaviours has a method below."""

    metadata = ModuleMetadata(module_id="behaviours", version="1.0.0")

    def __init__(self, metadata: ModuleMetadata) -> None:
        super().__init__(metadata)
        self.log: list[str] = []
        self.done: Counter[str] = Counter()
        self.started = ""

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        yield {"answer": 42, "shared": ["from the lifespan"]}

    async def on_startup(self) -> None:
        self.started = "yes"

    def middleware(self) -> Sequence[Middleware]:
        return [Middleware(Stamp, value="outer"), Middleware(Stamp, value="inner"), Middleware(GZipMiddleware)]

    def exception_handlers(self) -> Mapping[int | type[Exception], Callable[..., Any]]:
        async def teapot(request: Request, error: Teapot) -> Response:
            return JSONResponse({"tea": str(error), "path": request.url.path}, 418)

        def gone(request: Request, error: HTTPException) -> Response:
            return PlainTextResponse(f"gone: {error.detail}", 410)

        async def turned(request: Request, error: Turned) -> Response:
            raise Teapot("turned over") if str(error) == "teapot" else HTTPException(int(str(error)))

        return {Teapot: teapot, 410: gone, Turned: turned}

    def register_routes(self, router: APIRouter) -> None:
        for group in (
            self._parameters, self._bodies, self._answers, self._dependencies, self._failures, self._streams,
            self._addresses, self._sockets, self._parts,
        ):  # fmt: skip
            group(router)

    def _parameters(self, router: APIRouter) -> None:
        @router.get("/path/{number:int}/typed")
        async def typed(number: int) -> int:
            return number

        @router.get("/path/{ident}/uuid")
        async def ident(ident: uuid.UUID) -> uuid.UUID:
            return ident

        @router.get("/path/{share:float}/share")
        async def share(share: float) -> float:
            return share

        @router.get("/rest/{rest:path}")
        async def rest(rest: str) -> str:
            return rest

        @router.get("/colour/{colour}")
        async def colour(colour: Colour) -> Colour:
            return colour

        @router.get("/word/{word}")
        async def word(word: str) -> dict[str, str]:
            return {"word": word}

        @router.get("/word/fixed")
        async def fixed() -> str:
            return "after the template"

        @router.get("/query")
        async def query(
            number: int,
            flag: bool = False,
            many: Annotated[list[str] | None, Query()] = None,
            other: Annotated[str | None, Query(alias="other-name", pattern="^a+$", max_length=3)] = None,
        ) -> dict[str, Any]:
            return {"number": number, "flag": flag, "many": many, "other": other}

        @router.get("/query/model")
        async def query_model(wanted: Annotated[Filter, Query()]) -> Filter:
            return wanted

        @router.get("/headers")
        async def headers(
            user_agent: Annotated[str, Header()],
            x_token: Annotated[list[str] | None, Header()] = None,
            strange: Annotated[str | None, Header(convert_underscores=False)] = None,
        ) -> dict[str, Any]:
            return {"agent": user_agent, "tokens": x_token, "strange": strange}

        @router.get("/cookies")
        async def cookies(response: Response, visit: Annotated[int, Cookie()] = 0) -> int:
            response.set_cookie("visit", str(visit + 1), max_age=60, httponly=True, samesite="strict")
            response.set_cookie("second", "two", secure=True)
            response.delete_cookie("old")
            return visit

    def _bodies(self, router: APIRouter) -> None:
        @router.post("/items", status_code=201)
        async def create(item: Item) -> Item:
            return item

        @router.put("/items/{number}")
        async def put(number: int, item: Item, importance: Annotated[int, Body(ge=0)], q: str | None = None) -> Any:
            return {"number": number, "item": item, "importance": importance, "q": q}

        @router.patch("/embedded")
        async def embedded(item: Annotated[Item, Body(embed=True)]) -> dict[str, Any]:
            return item.model_dump(exclude_unset=True)

        @router.post("/animal")
        async def animal(animal: Annotated[Cat | Dog, Body(discriminator="kind")]) -> Cat | Dog:
            return animal

        @router.post("/anything")
        async def anything(value: Annotated[Any, Body()] = None) -> Any:
            return {"value": value}

        @router.post("/numbers")
        async def numbers(values: dict[int, float]) -> dict[int, float]:
            return values

        @router.post("/types")
        async def types(at: Annotated[datetime, Body()], span: Annotated[timedelta, Body()]) -> Any:
            return {"at": at + span, "set": {1}, "bytes": b"abc", "price": Decimal("2.50")}

        @router.post("/form")
        async def form(name: Annotated[str, Form()], ages: Annotated[list[int], Form()]) -> Any:
            return {"name": name, "ages": ages}

        @router.post("/form/model")
        async def form_model(wanted: Annotated[Filter, Form()]) -> Filter:
            return wanted

        @router.post("/file")
        async def file(content: Annotated[bytes, File()], note: Annotated[str, Form()] = "") -> Any:
            return {"size": len(content), "note": note}

        @router.post("/uploads")
        async def uploads(files: list[UploadFile]) -> Any:
            return [(file.filename, file.content_type, file.size, (await file.read()).decode()) for file in files]

        @router.post("/upload/sync")
        def upload_sync(file: UploadFile) -> str:
            return file.file.read().decode()

        @router.post("/raw")
        async def raw(request: Request) -> Any:
            body = await request.body()
            return {"body": body.decode(), "type": request.headers.get("content-type")}

        @router.post("/count")
        async def count(request: Request) -> int:
            return sum([len(chunk) async for chunk in request.stream()])

        @router.delete("/items/{number}", status_code=204)
        async def delete(number: int) -> None:
            return None

    def _answers(self, router: APIRouter) -> None:
        full = Item(name="pen", secret="hidden", tags=["a"])

        @router.get("/model", response_model=PublicItem)
        async def model() -> Any:
            return full

        @router.get("/model/unset", response_model=Item, response_model_exclude_unset=True)
        def unset() -> Any:
            return {"name": "pen", "price": "2"}

        @router.get("/model/include", response_model=Item, response_model_include={"name", "tags"})
        async def include() -> Any:
            return full

        @router.get("/model/list")
        async def model_list() -> list[PublicItem]:
            return [PublicItem(name="a"), PublicItem(name="b", note="n")]

        @router.get("/teapot", status_code=418)
        async def status(response: Response) -> dict[str, int]:
            response.headers["x-own"] = "set"
            return {"tea": 1}

        @router.get("/changed", status_code=200)
        async def changed(response: Response) -> str:
            response.status_code = 202
            return "later"

        @router.get("/html", response_class=HTMLResponse)
        async def html() -> str:
            return "<p>hello</p>"

        @router.get("/text", response_class=PlainTextResponse)
        def text() -> str:
            return "grüß dich"

        @router.get("/own")
        async def own() -> Response:
            return Response(b"\x00\x01", media_type="application/x-own", headers={"x-a": "1"})

        @router.get("/self", response_class=FileResponse)
        async def own_file() -> str:
            return str(HERE)

        @router.get("/download")
        async def download() -> Response:
            return FileResponse(HERE, filename="grüße.py", media_type="text/x-python")

        @router.get("/big")
        async def big() -> list[int]:
            return list(range(1_000))

        @router.api_route("/several", methods=["GET", "POST", "HEAD", "OPTIONS"])
        async def several(request: Request) -> str:
            return request.method

        @router.head("/only-head")
        async def only_head() -> Response:
            return Response(headers={"x-head": "1"})

        @router.get("/decorated")
        @open_to_all
        async def decorated() -> str:
            return "yes"

    def _dependencies(self, router: APIRouter) -> None:
        log, done = self.log, self.done

        async def session(name: str = "s") -> AsyncIterator[str]:
            log.append(f"open {name}")
            try:
                yield name
            except Teapot:
                log.append("saw teapot")
                raise
            except KeyError as error:
                raise HTTPException(409, "from the dependency") from error
            finally:
                log.append(f"close {name}")

        def plain(session: Annotated[str, Depends(session)]) -> Iterator[str]:
            log.append("sync open")
            yield f"{session}!"
            log.append("sync close")

        class Pages:
            def __init__(self, skip: int = 0, limit: int = 5) -> None:
                self.skip, self.limit = skip, limit

        def once() -> int:
            done["once"] += 1
            return done["once"]

        @router.get("/yielded")
        async def yielded(value: Annotated[str, Depends(plain)], again: Annotated[str, Depends(session)]) -> Any:
            log.append("handler")
            return [value, again]

        @router.get("/yielded/teapot")
        async def yielded_teapot(value: Annotated[str, Depends(session)]) -> Any:
            raise Teapot("dependency")

        @router.get("/yielded/converted")
        def yielded_converted(value: Annotated[str, Depends(session)]) -> Any:
            raise KeyError(value)

        @router.get("/log")
        async def read() -> list[str]:
            found, log[:] = list(log), []
            return found

        @router.get("/pages")
        async def pages(pages: Annotated[Pages, Depends()]) -> Any:
            return [pages.skip, pages.limit]

        @router.get("/once")
        async def cached(one: Annotated[int, Depends(once)], two: Annotated[int, Depends(once)]) -> bool:
            return one == two

        @router.get("/fresh")
        async def fresh(one: Annotated[int, Depends(once)], two: Annotated[int, Depends(once, use_cache=False)]) -> int:
            return two - one

        @router.get("/bearer")
        async def bearer(token: Annotated[str, Depends(OAuth2PasswordBearer("token"))]) -> str:
            return token

        @router.get("/http-bearer")
        async def http_bearer(token: Annotated[Any, Security(HTTPBearer())]) -> str:
            return str(token.credentials)

        @router.get("/basic")
        async def basic(who: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
            return who.username

        @router.get("/key")
        async def key(key: Annotated[str, Depends(APIKeyHeader(name="x-key"))]) -> str:
            return key

        @router.get("/background")
        async def background(tasks: BackgroundTasks) -> str:
            def later(word: str) -> None:
                log.append(f"background {word} {threading.current_thread() is threading.main_thread()}")

            async def last() -> None:
                log.append("background last")

            tasks.add_task(later, "first")
            tasks.add_task(last)
            return "now"

        @router.get("/sync")
        def sync() -> bool:
            return threading.current_thread() is threading.main_thread()

        @router.get("/state")
        async def state(request: Request) -> Any:
            return [request.state.answer, request.state.shared, self.started, dict(self.config)]

    def _failures(self, router: APIRouter) -> None:
        @router.get("/raise/{kind}")
        async def fail(kind: str) -> None:
            if kind == "teapot":
                raise Teapot("short and stout")
            if kind == "http":
                raise HTTPException(403, {"why": ["not", "today"]}, headers={"x-why": "not today"})
            if kind == "gone":
                raise HTTPException(410, "away")
            if kind.startswith("turned-"):
                raise Turned(kind.partition("-")[2])
            if kind == "validation":
                raise RequestValidationError([{"loc": ("body",), "msg": "by hand", "type": "own"}])
            raise HTTPException(int(kind))

        @router.get("/crash")
        async def crash() -> None:
            raise ValueError("secret of the author")

        @router.get("/crash/sync")
        def crash_sync() -> None:
            raise ValueError("secret of the author")

        @router.get("/crash/model")
        async def crash_model() -> Item:
            return {"no": "name"}  # type: ignore[return-value]  # what this route is about

    def _streams(self, router: APIRouter) -> None:
        done = self.done

        @router.get("/stream")
        async def stream() -> Response:
            async def parts() -> AsyncIterator[bytes]:
                for number in range(3):
                    yield f"part {number}\n".encode()

            return StreamingResponse(parts(), media_type="text/plain")

        @router.get("/stream/sync")
        def stream_sync() -> Response:
            return StreamingResponse((f"{number}," for number in range(5)), 203, media_type="text/csv")

        @router.get("/events")
        async def events() -> Response:
            async def parts() -> AsyncIterator[str]:
                for number in range(3):
                    yield f"id: {number}\nevent: tick\ndata: {number * number}\n\n"

            return StreamingResponse(parts(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

        @router.get("/endless")
        async def endless() -> Response:
            async def parts() -> AsyncIterator[str]:
                try:
                    while True:
                        yield "tick\n"
                        await asyncio.sleep(0.001)
                finally:
                    done["endless"] += 1

            return StreamingResponse(parts(), media_type="text/plain")

        @router.get("/sse", response_class=EventSourceResponse)
        async def sse(last_event_id: Annotated[int, Header()] = 0) -> AsyncIterator[ServerSentEvent]:
            yield ServerSentEvent(comment="begin", retry=50)
            for number in range(last_event_id + 1, 4):
                yield ServerSentEvent(data=PublicItem(name=str(number)), event="tick", id=str(number))

        @router.post("/sse/sync", response_class=EventSourceResponse)
        def sse_sync(item: Item) -> Iterator[Item]:
            yield item
            yield item

        @router.get("/lines")
        async def lines() -> AsyncIterator[PublicItem]:
            for name in "abc":
                yield PublicItem(name=name)

        @router.get("/lines/sync")
        def lines_sync() -> Iterator[PublicItem]:
            yield PublicItem(name="in a thread")

        @router.get("/gone")
        async def gone(request: Request) -> Response:
            async def parts() -> AsyncIterator[str]:
                try:
                    yield "says nothing more\n"
                    while not await request.is_disconnected():
                        await asyncio.sleep(0.001)
                finally:
                    done["endless"] += 1

            return StreamingResponse(parts())

        @router.get("/endless/ended")
        async def ended() -> int:
            return done["endless"]

    def _addresses(self, router: APIRouter) -> None:
        @router.get("/links/{number}", name="link")
        async def links(request: Request, number: int) -> Any:
            return {
                "for": str(request.url_for("link", number=number + 1)),
                "file": str(request.url_for("files", path="a.txt")),
                "inner": str(request.url_for("inner", number=3)),
                "url": str(request.url),
                "base": str(request.base_url),
                "path": request.url.path,
                "params": request.path_params,
                "client": request.client is not None,
            }

        @router.get("/go")
        async def go(request: Request) -> Response:
            return RedirectResponse(request.url_for("link", number=1))

        @router.get("/go/see", response_class=RedirectResponse, status_code=303)
        async def see(request: Request) -> str:
            return str(request.url_for("link", number=2).include_query_params(a="b"))

        @router.get("/with-slash/")
        async def with_slash() -> str:
            return "with"

        @router.post("/without-slash")
        async def without_slash() -> str:
            return "without"

        @router.get("/")
        async def root() -> str:
            return "root"

    def _sockets(self, router: APIRouter) -> None:
        async def token(websocket: WebSocket, token: Annotated[str | None, Query()] = None) -> str:
            if token is None:
                raise WebSocketException(1008, "no token")
            return token

        @router.websocket("/ws/echo")
        async def echo(websocket: WebSocket) -> None:
            await websocket.accept(headers=[(b"x-socket", b"yes")])
            try:
                while True:
                    message = await websocket.receive()
                    if message["type"] == "websocket.disconnect":
                        self.log.append(f"left {message['code']}")
                        break
                    if message.get("text") is not None:
                        await websocket.send_text(message["text"].upper())
                    else:
                        await websocket.send_bytes(message["bytes"][::-1])
            except WebSocketDisconnect:
                self.log.append("disconnected")

        @router.websocket("/ws/json/{number}")
        async def json(
            websocket: WebSocket,
            number: int,
            token: Annotated[str, Depends(token)],
            visit: Annotated[str, Cookie()] = "",
        ) -> None:
            await websocket.accept()
            said = await websocket.receive_json()
            url = str(websocket.url_for("link", number=number))
            await websocket.send_json(
                {
                    "said": said,
                    "token": token,
                    "number": number,
                    "visit": visit,
                    "url": url,
                    "n": websocket.state.answer,
                }
            )
            await websocket.close(4001, "that was all")

        @router.websocket("/ws/subprotocol")
        async def subprotocol(websocket: WebSocket) -> None:
            chosen = "two" if "two" in websocket.scope["subprotocols"] else None
            await websocket.accept(chosen)
            await websocket.send_json(websocket.scope["subprotocols"])
            await websocket.close()

        @router.websocket("/ws/refused")
        async def refused(websocket: WebSocket) -> None:
            await websocket.close(1008)

        @router.websocket("/ws/denied")
        async def denied(websocket: WebSocket) -> None:
            await websocket.send_denial_response(JSONResponse({"no": "way"}, 402))

        @router.websocket("/ws/crash")
        async def crash(websocket: WebSocket) -> None:
            await websocket.accept()
            raise ValueError("in the socket")

    def _parts(self, router: APIRouter) -> None:
        def note(x_note: Annotated[str, Header()] = "") -> None:
            if x_note == "bad":
                raise HTTPException(400, "bad note")

        part = APIRouter(prefix="/part", tags=["part"], dependencies=[Depends(note)], route_class=Timed)

        @part.get("/inner/{number}", name="inner")
        async def inner(number: int) -> int:
            return number

        deep = APIRouter()

        @deep.get("/deep", deprecated=True)
        async def deepest() -> str:
            return "deep"

        part.include_router(deep, prefix="/more")
        router.include_router(part)
        router.mount("/files", StaticFiles(directory=HERE.parent / "files", html=True), name="files")

        async def mounted(request: Request) -> Response:
            return JSONResponse({"url": str(request.url), "back": str(request.url_for("again", word="x"))})

        router.mount(
            "/mounted", Starlette(routes=[Route("/here", mounted), Route("/again/{word}", mounted, name="again")])
        )

        @router.get("/at")
        async def at() -> datetime:
            return datetime(2030, 1, 1, tzinfo=UTC)


class Unlayered(Behaviours):
    """The same without middleware of its own, so that the gateway goes straight to its routes."""

    def middleware(self) -> Sequence[Middleware]:
        return ()
