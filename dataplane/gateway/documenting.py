"""The OpenAPI document of a worker's own pages; what modules serve is described by `describing`.

Pure: a function of the models here.  Printed by ``python -m dataplane openapi`` for `schemas.publishing`; a test calls
every page and holds its answer to this document.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from schemas.meta import Json
from schemas.problems import PROBLEM_JSON, Problem

_REF: Final = "#/components/schemas/"
_AT: Final = "2030-01-01T12:00:00+00:00"


class Alive(BaseModel):
    """The worker answers."""

    status: Literal["healthy"] = "healthy"


class Check(BaseModel):
    """One part of the worker."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    ok: bool
    reason: str = ""
    """What is wrong, and what to do."""
    since: str = Field(examples=[_AT])


class Readiness(BaseModel):
    """Whether requests may come: the routes are loaded, also from disk alone."""

    ready: bool
    state: Literal["synced", "degraded", "out_of_sync", "empty", "never_loaded"]
    reason: str
    since: str = Field(examples=[_AT])
    lastGood: dict[str, Any]  # noqa: N815 - as it is sent
    checks: dict[str, Check]


class Information(BaseModel):
    """What the worker says of itself; there is more."""

    model_config = ConfigDict(extra="allow")
    plane: Literal["data"] = "data"
    version: str = Field(examples=["0.1.0"])
    worker: dict[str, Any]
    modules: list[dict[str, Any]]


_MODELS: Final = (Alive, Readiness, Information, Problem)


def document(version: str) -> Json:
    """The whole document."""
    _, found = models_json_schema([(model, "serialization") for model in _MODELS], ref_template=f"{_REF}{{model}}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "modplane: pages of a worker",
            "version": version,
            "description": "What a worker itself answers, to everybody; `/openapi.json` describes the modules' routes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/health": _page("health", "Whether the worker answers.", {"200": _json("Alive")}),
            "/ready": _page(
                "ready", "Whether requests may come.", {"200": _json("Readiness"), "503": _json("Readiness")}
            ),
            "/modules/system/info": _page("info", "The worker and its modules.", {"200": _json("Information")}),
            "/openapi.json": _page(
                "openapi",
                "The routes of all modules that serve here, or of those that are asked for.",
                {
                    "200": _content("OpenAPI 3.1", "application/json", {"type": "object"}),
                    "404": _content("No such module serves here", PROBLEM_JSON, {"$ref": f"{_REF}Problem"}),
                },
                [{"name": "module", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}],
            ),
            "/docs": _page(
                "docs", "The same for people.", {"200": _content("A page", "text/html", {"type": "string"})}
            ),
        },
        "components": {"schemas": found["$defs"]},
    }


def _page(name: str, summary: str, responses: Json, parameters: list[Json] | None = None) -> Json:
    operation: Json = {"operationId": name, "summary": summary, "responses": responses, "tags": ["worker"]}
    return {"get": operation | ({"parameters": parameters} if parameters else {})}


def _json(model: str) -> Json:
    return _content(model, "application/json", {"$ref": f"{_REF}{model}"})


def _content(description: str, kind: str, schema: Json) -> Json:
    return {"description": description, "content": {kind: {"schema": schema}}}
