"""A module that replaces FastAPI's own exception handlers, for itself alone."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from dataplane.sdk import BaseModuleRouter, ModuleMetadata


class Overriding(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="overriding", version="1.0.0")

    def exception_handlers(self) -> Mapping[int | type[Exception], Callable[..., Any]]:
        async def http(request: Request, error: StarletteHTTPException) -> Response:
            if error.status_code == 404:
                return await http_exception_handler(request, error)
            return PlainTextResponse(f"own: {error.detail}", error.status_code)

        async def invalid(request: Request, error: RequestValidationError) -> Response:
            return JSONResponse({"problems": len(error.errors()), "body": error.body}, 400)

        async def crash(request: Request, error: Exception) -> Response:
            return PlainTextResponse(f"own crash: {type(error).__name__}", 500)

        return {StarletteHTTPException: http, RequestValidationError: invalid, Exception: crash}

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/http/{status}")
        async def http(status: int) -> None:
            raise HTTPException(status, "raised")

        @router.post("/numbers")
        async def numbers(values: list[int]) -> list[int]:
            return values

        @router.get("/crash")
        def crash() -> None:
            raise ValueError("with a handler of its own")

        self._with_lifespan(router)

    def _with_lifespan(self, router: APIRouter) -> None:
        async def lifespan(app: FastAPI) -> Any:
            yield {"inner": type(app).__name__}

        part = APIRouter(prefix="/part", lifespan=lifespan)  # a generator, as older code has

        @part.get("/state")
        async def state(request: Request) -> str:
            return str(request.state.inner)

        router.include_router(part)
