"""A module behind the gateway answers as it would alone; what is not a module's answer is a problem document."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Depends, HTTPException, Request, WebSocket
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.responses import PlainTextResponse

from schemas.module import Tenancy
from tests.doubles.asgi import Socket, call
from tests.doubles.modules import FakeInstance

PREFIX = "/api/v1/modules/v1/shop"


async def dependency() -> str:
    return "given"


def shop(router: APIRouter) -> None:
    @router.get("/")
    async def root() -> str:
        return "root"

    @router.get("/items/{number:int}", name="item")
    async def item(number: int, q: str = "") -> dict[str, Any]:
        return {"number": number, "q": q}

    @router.get("/items/{name}")
    async def named(name: str) -> dict[str, Any]:
        return {"name": name}

    @router.get("/items/best")
    def best() -> str:
        return "best"

    @router.post("/items")
    async def create(thing: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        return thing

    @router.get("/url")
    async def url(request: Request, given: Annotated[str, Depends(dependency)]) -> dict[str, Any]:
        return {"url": str(request.url_for("item", number=7)), "root": request.scope["root_path"], "given": given}

    @router.get("/state")
    async def state(request: Request) -> bool:
        return bool(request.state.ready)

    @router.get("/redirect")
    async def away(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url_for("item", number=1))

    @router.get("/raises")
    async def raises() -> None:
        raise RuntimeError("secret of the author")

    @router.get("/exits")
    async def exits() -> None:
        raise SystemExit(3)

    @router.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            yield b"a"
            yield b"b"

        return StreamingResponse(parts())

    @router.get("/rest/{path:path}")
    async def rest(path: str) -> str:
        return path

    @router.get("/guarded")
    async def guarded() -> str:
        raise AssertionError("module code ran")

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"{socket.url.path} {await socket.receive_text()}")
        await socket.close()

    @router.websocket("/broken")
    async def broken(socket: WebSocket) -> None:
        raise RuntimeError("secret of the author")

    @router.websocket("/secret")
    async def secret(socket: WebSocket) -> None:
        raise AssertionError("module code ran")

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(f"mounted {scope['root_path']}")(scope, receive, send)

    router.mount("/files", mounted)


GUARDED = {"/guarded", "/secret"}


@pytest.fixture
async def served(gateway: Any) -> Any:
    await gateway.install(shop, guarded=GUARDED)
    return gateway.app


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/items/7?q=x"), ("GET", "/items/seven"), ("GET", "/items/7.5"),
        ("HEAD", "/items/7"), ("OPTIONS", "/items/7"), ("POST", "/items/7"), ("PUT", "/items"), ("POST", "/items"),
        ("GET", "/nothing"), ("GET", "/items/7/"), ("GET", "/teapot"), ("GET", "/stream"),
        ("GET", "/rest/a/b"), ("GET", "/rest/caf%C3%A9"), ("GET", "/redirect"), ("GET", "/url"), ("POST", "/rest/a"),
        ("GET", "/files"), ("GET", "/live"), ("GET", "/items/7?q=%2F"), ("TRACE", "/items"),
    ],
)  # fmt: skip
async def test_a_module_answers_as_it_would_alone(gateway: Any, method: str, path: str) -> None:
    await gateway.install(shop, guarded=GUARDED)
    alone = FakeInstance(shop).app
    body = b'{"a": 1}' if method == "POST" else b""
    headers = {"content-type": "application/json"} if body else {}
    expected = await call(alone, method, path, body=body, headers=headers, root_path="")
    got = await call(gateway.app, method, PREFIX + path, body=body, headers=headers)
    assert got.status == expected.status
    assert got.headers.get("allow") == expected.headers.get("allow")
    if got.status < 300 or got.status == 418:
        assert got.body.replace(PREFIX.encode(), b"") == expected.body.replace(PREFIX.encode(), b"") or path == "/url"
    if "location" in expected.headers:
        assert got.headers["location"].replace("http://example.org", "") == PREFIX + expected.headers[
            "location"
        ].replace("http://example.org", "")


async def test_a_handler_sees_a_copy_of_its_modules_lifespan_state(served: Any) -> None:
    assert (await call(served, "GET", f"{PREFIX}/state")).json is True


async def test_urls_and_redirects_carry_the_prefix_and_an_outer_root_path(served: Any) -> None:
    answer = await call(served, "GET", f"{PREFIX}/url", root_path="/outer")
    assert answer.json == {
        "url": f"http://example.org/outer{PREFIX}/items/7", "root": f"/outer{PREFIX}", "given": "given",
    }  # fmt: skip
    answer = await call(served, "GET", f"{PREFIX}/redirect")
    assert answer.headers["location"] == f"http://example.org{PREFIX}/items/1"


async def test_a_slash_redirect_stays_on_this_host_whatever_the_host_header_says(served: Any) -> None:
    answer = await call(served, "GET", f"{PREFIX}/items/7/?q=1", headers={"host": "evil.example"})
    assert (answer.status, answer.headers["location"]) == (307, f"{PREFIX}/items/7?q=1")
    bare = await call(served, "GET", PREFIX)
    assert (bare.status, bare.headers["location"]) == (307, f"{PREFIX}/")


async def test_a_literal_path_wins_and_its_own_handler_runs(served: Any) -> None:
    assert (await call(served, "GET", f"{PREFIX}/items/best")).json == "best"


async def test_a_405_names_every_allowed_method(gateway: Any) -> None:
    def register(router: APIRouter) -> None:
        router.add_api_route("/a", lambda: 1, methods=["GET"])
        router.add_api_route("/a", lambda: 2, methods=["PUT"], name="put")

    await gateway.install(register)
    answer = await call(gateway.app, "DELETE", f"{PREFIX}/a")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, PUT")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["instance"] == f"{PREFIX}/a"


@pytest.mark.parametrize(
    "path",
    ["/api/v1/modules/v1/none/x", "/api/v1/modules/v2/shop/items/7", "/api/v1/modules/v1/Shop/items/7",
     "/api/v1/modules/v1", "/api/v1/modules/v1/", "/api/v1/modules", "/api/v1/modulesX/v1/shop/", "/nowhere", "/"],
)  # fmt: skip
async def test_what_nobody_serves_is_a_404_problem(served: Any, path: str) -> None:
    answer = await call(served, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_path_with_two_readings_is_refused_before_anything_is_looked_up(served: Any) -> None:
    answer = await call(served, "GET", f"{PREFIX}/items/%2e%2e/guarded")
    assert answer.status == 400
    assert "dot segment" in answer.json["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_guarded_route_answers_401_and_runs_no_module_code(gateway: Any, method: str) -> None:
    def register(router: APIRouter) -> None:
        router.add_api_route("/guarded", _never, methods=["GET", "HEAD"])

    await gateway.install(register, guarded={"/guarded"})
    answer = await call(gateway.app, method, f"{PREFIX}/guarded")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def _never() -> None:
    raise AssertionError("module code ran")


async def test_a_module_for_organisations_refuses_even_open_routes(gateway: Any) -> None:
    await gateway.install(shop, tenancy=Tenancy.ORGANISATION)
    assert (await call(gateway.app, "GET", f"{PREFIX}/items/7")).status == 401


async def test_a_handler_that_raises_is_a_500_problem_without_its_secrets(served: Any) -> None:
    for path in ("/raises", "/exits"):
        answer = await call(served, "GET", PREFIX + path)
        assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
        assert b"secret" not in answer.body


async def test_a_broken_module_answers_503_and_never_falls_through(gateway: Any) -> None:
    def sibling(router: APIRouter) -> None:
        router.add_api_route("/items/{anything:path}", lambda anything: "fell through", methods=["GET"])

    await gateway.install(sibling, name="sibling", namespace="shop")
    gateway.block(shop, guarded=GUARDED, retryable=True)
    for path in ("/items/7", "/guarded"):
        answer = await call(gateway.app, "GET", PREFIX + path)
        assert (answer.status, answer.json["retryable"]) == (503, True)
        assert answer.headers["retry-after"] == "5"
        assert "ImportFailed" in answer.json["detail"]
        assert b"secret" not in answer.body
    assert (await call(gateway.app, "GET", f"{PREFIX}/items/a/b")).json == "fell through"


async def test_health_of_a_namespace_is_worst_of_its_modules(gateway: Any) -> None:
    await gateway.install(shop)
    assert (await call(gateway.app, "GET", f"{PREFIX}/health")).json == {"status": "healthy"}
    assert (await call(gateway.app, "POST", f"{PREFIX}/health")).headers["allow"] == "GET, HEAD"
    gateway.block(lambda router: router.add_api_route("/b", lambda: 1), name="b", namespace="shop")
    answer = await call(gateway.app, "GET", f"{PREFIX}/health")
    assert (answer.status, answer.json) == (503, {"status": "unhealthy"})


async def test_no_template_of_a_module_takes_the_health_of_its_namespace(gateway: Any) -> None:
    def register(router: APIRouter) -> None:
        router.add_api_route("/{anything}", lambda anything: anything, methods=["GET", "POST"])

    await gateway.install(register)
    assert (await call(gateway.app, "GET", f"{PREFIX}/healthy")).json == "healthy"
    assert (await call(gateway.app, "GET", f"{PREFIX}/health")).json == {"status": "healthy"}
    assert (await call(gateway.app, "POST", f"{PREFIX}/health")).status == 405


async def test_a_mounted_application_gets_its_own_root_path(served: Any) -> None:
    answer = await call(served, "PROPFIND", f"{PREFIX}/files/a")
    assert answer.body == f"mounted {PREFIX}/files".encode()


async def test_an_open_websocket_works(served: Any) -> None:
    socket = Socket(served, f"{PREFIX}/live")
    assert (await socket.hear())["type"] == "websocket.accept"
    socket.say("hello")
    assert (await socket.hear())["text"] == f"{PREFIX}/live hello"
    await socket.task


@pytest.mark.parametrize(("path", "status"), [("/secret", 401), ("/nothing", 404), ("/items/7", 404)])
async def test_a_websocket_is_denied_before_it_is_accepted(served: Any, path: str, status: int) -> None:
    socket = Socket(served, PREFIX + path)
    await socket.task
    assert socket.answer.status == status
    assert socket.answer.json["status"] == status
    plain = Socket(served, PREFIX + path, denial=False)
    assert (await plain.hear())["type"] == "websocket.close"


async def test_a_websocket_to_a_host_page_is_denied(served: Any) -> None:
    socket = Socket(served, "/health")
    await socket.task
    assert socket.answer.status == 404


async def test_a_websocket_whose_handler_raises_before_it_accepts_is_denied(served: Any) -> None:
    socket = Socket(served, f"{PREFIX}/broken")
    await socket.task
    assert socket.answer.status == 500
    assert "secret" not in str(socket.answer.json)


async def test_included_routers_run_the_route_whose_policy_was_checked(gateway: Any) -> None:
    """An included router keeps its author's order: what it hides from itself stays hidden, and so does its policy."""

    def register(router: APIRouter) -> None:
        inner = APIRouter(prefix="/in")
        inner.add_api_route("/{anything}", _guarded_one, methods=["GET"])
        inner.add_api_route("/open", _open_one, methods=["GET"])
        inner.add_api_route("/open/{x}", _open_one, methods=["GET"], name="deep")
        router.include_router(inner)

    await gateway.install(register, guarded={"/in/{anything}"})
    assert (await call(gateway.app, "GET", f"{PREFIX}/in/open")).status == 401
    assert (await call(gateway.app, "GET", f"{PREFIX}/in/open/x")).json == "open"


async def _guarded_one() -> str:
    raise AssertionError("module code ran without its policy")


async def _open_one() -> str:
    return "open"


async def test_a_request_keeps_the_module_it_began_with(gateway: Any) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    def old(router: APIRouter) -> None:
        @router.get("/slow")
        async def slow() -> str:
            entered.set()
            await gate.wait()
            return "old"

    first = await gateway.install(old)
    request = asyncio.create_task(call(gateway.app, "GET", f"{PREFIX}/slow"))
    await entered.wait()
    await gateway.install(lambda router: router.add_api_route("/slow", lambda: "new"), generation=2)
    assert (await call(gateway.app, "GET", f"{PREFIX}/slow")).json == "new"
    assert first.stops == 0
    gate.set()
    assert (await request).json == "old"


async def test_a_scope_is_not_changed_for_the_server(served: Any) -> None:
    seen: dict[str, Any] = {}

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await served(scope, receive, send)
        assert {key: scope[key] for key in seen} == seen
        assert "app" not in scope

    await call(spy, "GET", f"{PREFIX}/items/7")


async def test_a_namespace_leads_to_the_description_of_its_own_modules(gateway: Any) -> None:
    await gateway.install(lambda router: router.add_api_route("/one", _open_one), name="one", namespace="shop")
    await gateway.install(
        lambda router: router.add_api_route("/two", _open_one), name="two", namespace="shop", uid="u2"
    )
    await gateway.install(lambda router: router.add_api_route("/three", _open_one), name="three", uid="u3")
    for page in ("openapi.json", "docs"):
        answer = await call(gateway.app, "GET", f"{PREFIX}/{page}", root_path="/outer")
        assert (answer.status, answer.headers["location"]) == (307, f"/outer/{page}?module=one&module=two")
    document = (await call(gateway.app, "GET", "/openapi.json?module=one&module=two")).json
    assert set(document["paths"]) == {f"{PREFIX}/one", f"{PREFIX}/two"}
    assert (await call(gateway.app, "GET", "/openapi.json?module=nobody")).status == 404


async def test_a_module_may_have_such_a_page_itself(gateway: Any) -> None:
    await gateway.install(lambda router: router.add_api_route("/docs", _open_one))
    assert (await call(gateway.app, "GET", f"{PREFIX}/docs")).json == "open"
