"""The OpenAPI document of this plane, ``/openapi.json``, and the page ``/docs`` that shows it.

What always holds: every operation says what it may be refused with, as a problem document (RFC 9457) and with an
example; it says which token it needs; nothing is loaded from elsewhere.  Made once per application, from its routes and
the models of `modelling`; ``python -m controlplane openapi`` prints it for `schemas.publishing`.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from controlplane.api import answering, authorising
from schemas.kits.apidocs import assets
from schemas.meta import Json
from schemas.problems import PROBLEM_JSON, Problem, Violation

_TEXTS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("The request cannot be understood", "exactly one Host header is needed"),
    401: ("A token is needed, or this one is not valid here", "this needs a token with the role viewer"),
    403: ("This caller may not do this, or a web page asks", "this needs the role editor"),
    404: ("There is no such module", "Module 'nothing' does not exist"),
    409: ("The module changed meanwhile", "the object was changed by somebody else; read it again"),
    421: ("This server does not answer to that name", "this server does not answer to the name 'example.org'"),
    422: ("The question or the document is wrong", "/query/limit: Input should be greater than or equal to 1"),
    503: ("Try again soon", "the database is busy"),
}
_ALWAYS: Final = (400, 401, 403, 421, 503)
_BEARER: Final = "bearer"
_PROBLEM: Final = "#/components/schemas/Problem"


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of an operation: those of every operation, and ``codes``."""
    return {code: _problem(code) for code in sorted({*_ALWAYS, *codes})}


def document(app: FastAPI) -> Json:
    """The whole document."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=(
            "What administrators ask and tell the control plane of modplane. The objects themselves are below "
            "`/apis/modplane.dev/v1`, in the wire format of Kubernetes; `/openapi/v3` describes those."
        ),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
    )
    parts = made.setdefault("components", {})
    found = parts.setdefault("schemas", {})
    for model in (Violation, Problem):
        schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        found[model.__name__] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        found.pop(name, None)
    parts["securitySchemes"] = {
        _BEARER: {"type": "http", "scheme": "bearer", "description": "A token of a configured issuer, with a role."}
    }
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if not authorising.is_open(path):
                operation["security"] = [{_BEARER: []}]
    return made


async def page(_: Request) -> Response:
    """``/docs``."""
    return _answer(await asyncio.to_thread(assets.page, "control plane"))


async def file(request: Request) -> Response:
    """A file of the page."""
    found = await asyncio.to_thread(assets.file, request.path_params["name"])
    if found is None:
        raise answering.Refusal(404, "there is no such file; /docs names those that there are")
    return _answer(found)


def _answer(asset: assets.Asset) -> Response:
    headers = {name.decode(): value.decode() for name, value in asset.headers}
    return Response(asset.body, media_type=asset.kind.decode(), headers=headers)


def _problem(code: int) -> dict[str, Any]:
    description, detail = _TEXTS[code]
    example = Problem(title=HTTPStatus(code).phrase, status=code, detail=detail, instance="/…", retryable=code == 503)
    headers = {"retry-after": {"schema": {"type": "string"}, "description": "Seconds."}} if code == 503 else {}
    return {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": {"$ref": _PROBLEM}, "example": example.wire()}},
        **({"headers": headers} if headers else {}),
    }
