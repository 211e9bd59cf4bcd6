"""The application: which handler answers which address, and what becomes of errors.

    Guard (Host, Origin, caller) ─▶ resource routes (plain Starlette) ─▶ management routes (FastAPI, for their OpenAPI)

Always holds: each error leaves in the form that its path promises (`answering`); the resource routes come first and
carry no response models, because admission has checked what is stored.  Made by `controlplane.app`.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from controlplane import errors, writing
from controlplane.api import (
    answering,
    auditing,
    authenticating,
    cataloguing,
    changing,
    describing,
    documenting,
    guarding,
    managing,
    modelling,
    overseeing,
    ports,
    resources,
    tailing,
    tracing,
    watching,
)
from controlplane.audit import noting
from controlplane.store import stores
from controlplane.telemetry import measurements
from schemas import kinds, names
from schemas.kits import exposing
from schemas.kits.clocks import Clock
from schemas.meta import Json
from schemas.problems import Violation

logger = structlog.get_logger("controlplane.api.apps")

_QUIET: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}


class Api:
    """The guarded application, an ASGI callable; `close` ends its watches."""

    def __init__(self, app: FastAPI, watches: watching.Watches, guard: ASGIApp) -> None:
        self.app = app
        self.watches = watches
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._guard(scope, receive, send)

    def close(self) -> None:
        """End every watch: call it before the server waits for its connections to end."""
        self.watches.close()


class _Described(FastAPI):
    """Describes itself as `documenting` does."""

    def openapi(self) -> Json:
        """The OpenAPI document, made once."""
        if not self.openapi_schema:
            self.openapi_schema = documenting.document(self)
        return self.openapi_schema


def _unheard(_: str) -> datetime | None:
    """Before anybody listens to workers nothing is known."""
    return None


def create_app(
    store: stores.Store,
    *,
    clock: Clock,
    sources: ports.SourceResolver | None,
    discoverer: ports.Discoverer,
    readiness: ports.Readiness,
    info: ports.Info,
    version: str,
    callers: authenticating.Callers,
    measured: measurements.Measurements,
    metrics: ports.Text | None = None,
    allowed_hosts: Collection[str] = guarding.LOOPBACK,
    writer: writing.Writer | None = None,
    auditor: ports.Auditor | None = None,
    book: noting.Book | None = None,
    last_check: ports.LastCheck = _unheard,
    tail: ports.Tail | None = None,
) -> Api:
    """The API over a store.

    ``auditor`` is asked for the audit trail; changes are noted in ``book``.  ``tail`` asks workers for lines.
    ``callers`` tells who calls, ``measured`` what workers counted; ``allowed_hosts``: names under which callers may
    address this server.
    """
    writer = writer or writing.Writer(store, clock, sources)
    watches = watching.Watches(store, clock)
    app = _Described(
        title="modplane control plane",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_QUIET,
    )
    app.router.routes.extend(
        [
            *_resource_routes(resources.Reader(store, clock, watches), changing.Changer(writer)),
            *_catalogue_routes(version),
            *_document_routes(app),
            Route("/metrics", _measured(metrics), methods=["GET"]),
        ]
    )
    _add_probes(app, readiness, info)
    oversight = overseeing.Oversight(store, clock, readiness)
    rooms = managing.Rooms(store, writer, discoverer, measured, oversight, last_check, tail or tailing.Nobody())
    app.include_router(managing.router(rooms))
    if auditor is not None:
        app.include_router(auditing.router(auditor))
    for kind in (errors.ModplaneError, answering.Refusal, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _refuse)
    return Api(app, watches, tracing.Traced(guarding.Guard(app, callers, allowed_hosts, book)))


def _resource_routes(reader: resources.Reader, changer: changing.Changer) -> list[Route]:
    base, many, one = names.API_PREFIX, f"{names.API_PREFIX}/{{plural}}", f"{names.API_PREFIX}/{{plural}}/{{name}}"
    return [
        Route(f"{base}/apply", changer.apply_list, methods=["POST"]),
        Route(many, reader.list, methods=["GET"]),
        Route(many, changer.create, methods=["POST"]),
        Route(many, changer.refuse_collection, methods=["DELETE"]),
        Route(one, reader.get, methods=["GET"]),
        Route(one, changer.replace, methods=["PUT"]),
        Route(one, changer.patch, methods=["PATCH"]),
        Route(one, changer.delete, methods=["DELETE"]),
        Route(f"{one}/status", reader.get, methods=["GET"]),
        Route(f"{one}/status", changer.refuse_status, methods=["PUT", "PATCH"]),
    ]


def _catalogue_routes(version: str) -> list[Route]:
    fixed: list[tuple[str, Callable[[], Json]]] = [
        ("/api", cataloguing.core),
        ("/apis", cataloguing.groups),
        (f"/apis/{names.GROUP}", cataloguing.group),
        (names.API_PREFIX, cataloguing.resources),
        ("/version", lambda: cataloguing.version(version)),
        ("/openapi/v3", describing.index),
        (f"/openapi/v3/apis/{names.API_VERSION}", describing.document),
    ]
    return [Route(path, _said(said), methods=["GET"]) for path, said in fixed]


def _document_routes(app: FastAPI) -> list[Route]:
    return [
        Route("/openapi.json", _said(app.openapi), methods=["GET"]),
        Route("/docs", documenting.page, methods=["GET"]),
        Route("/docs/{name}", documenting.file, methods=["GET"]),
    ]


def _add_probes(app: FastAPI, readiness: ports.Readiness, info: ports.Info) -> None:
    def ready() -> Response:
        checks = readiness()
        good = all(check.get("ok") for check in checks.values())
        body = {"status": "ready" if good else "not ready", "ready": good, "checks": checks}
        return answering.answer(body, 200 if good else 503)

    unready: dict[int | str, Any] = {503: {"model": modelling.Readiness, "description": "Some check fails."}}
    for path, said, model, more in (
        ("/health", lambda: answering.answer({"status": "ok"}), modelling.Alive, {}),
        ("/ready", ready, modelling.Readiness, unready),
        ("/modules/system/info", lambda: answering.answer(info()), modelling.Information, {}),
    ):
        handler, refusals = _asked(said), documenting.problems()
        app.add_api_route(
            path, handler, methods=["GET"], response_model=model, responses={**refusals, **more}, tags=["process"],
            summary=path, operation_id=path.strip("/").replace("/", "-"),
        )  # fmt: skip
        app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)


def _asked(said: Callable[[], Response]) -> Callable[[], Any]:
    """A short handler, run where it is asked rather than in a thread."""

    async def run() -> Response:
        return said()

    return run


def _measured(metrics: ports.Text | None) -> Callable[[Request], Any]:
    async def run(_: Request) -> Response:
        text = b"" if metrics is None else await metrics()
        return Response(text, media_type=exposing.CONTENT_TYPE, headers={"cache-control": "no-store"})

    return run


def _said(said: Callable[[], Json]) -> Callable[[Request], Any]:
    return _on_the_loop(lambda _: answering.answer(said()))


def _on_the_loop(handler: Callable[[Request], Response]) -> Callable[[Request], Any]:
    """A short handler, run where it is asked rather than in a thread."""

    async def run(request: Request) -> Response:
        return handler(request)

    return run


async def _refuse(request: Request, error: Exception) -> Response:
    path = request.url.path
    kind = kinds.BY_PLURAL.get(str(request.path_params.get("plural")))
    name = names.object_name(str(request.path_params.get("name") or getattr(request.state, "name", "")))
    if isinstance(error, HTTPException):
        error = _plain(error, request)
    elif isinstance(error, RequestValidationError):
        error = errors.Invalid(
            [
                Violation(pointer="/" + "/".join(map(str, found["loc"])), message=str(found["msg"]))
                for found in error.errors()
            ]
        )
    elif not isinstance(error, errors.ModplaneError | answering.Refusal):
        logger.error("request failed", path=path, method=request.method, exc_info=error)
    if (asked := getattr(request.state, "audit", None)) is not None:
        asked.reason = answering.reason_of(error)
    return answering.refused(error, path, name=name, kind=kind)


def _plain(error: HTTPException, request: Request) -> answering.Refusal:
    """What the router itself refuses, in words that say what to do."""
    message = {
        404: f"there is nothing at {request.url.path[:200]}; /apis/{names.API_VERSION} lists the resources, "
        "/openapi.json the management API",
        405: f"{request.method} is not for {request.url.path[:200]}",
    }.get(error.status_code, str(error.detail))
    return answering.Refusal(error.status_code, message, headers=error.headers)
