"""What a request asks for, read from its address, query and headers.

Pure over the request; every nonsense is an `answering.Refusal` with 400, 404 or 405 and what to write instead.
Called by the handlers of `resources`, `changing` and `watching`.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeAlias

from fastapi import Query
from pydantic import BeforeValidator
from starlette.requests import Request

from controlplane import errors, intaking
from controlplane.api import answering, selecting, showing, tables
from controlplane.audit.noting import Asked
from schemas import kinds, names
from schemas.meta import Json

MAX_LIMIT = 100_000


def _written(moment: object) -> object:
    """A moment in words: a bare number, which pydantic takes for seconds, is none."""
    if isinstance(moment, str) and not re.match(r"\d{4}-\d\d-\d\d", moment):
        raise ValueError("write a moment as RFC 3339 has it, such as 2030-01-01T12:00:00Z")
    return moment


Moment: TypeAlias = Annotated[datetime, BeforeValidator(_written)]
"""A moment of the query (RFC 3339); one without a zone is UTC."""

_KEY = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"[-A-Za-z0-9_.]*"
_CLAUSE = rf"(!?{_KEY}|{_KEY}(=|==|!=){_VALUE}|{_KEY} (in|notin) \({_VALUE}(,{_VALUE})*\))"
Labels: TypeAlias = Annotated[
    str,
    Query(
        description="A selector as in Kubernetes: ``team=insights``, ``team in (a,b)``, ``!old``.",
        pattern=rf"^({_CLAUSE}(,{_CLAUSE})*)?$",
        max_length=1000,
    ),
]


@dataclass(frozen=True, slots=True)
class Form:
    """In which form objects are wanted."""

    kind: kinds.Kind
    table: bool
    include: str
    """With a Table: what each row carries of its object (``None``, ``Metadata``, ``Object``)."""
    now: datetime

    def one(self, document: Json, *, headed: bool = True) -> Json:
        """A single object."""
        if not self.table:
            return showing.shown(document)
        metadata = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
        return tables.table(
            self.kind, [showing.shown(document)], self.now, metadata=metadata, include=self.include, headed=headed
        )

    def many(self, documents: list[Json], revision: int, after: str | None) -> Json:
        """A list."""
        found = showing.listed(self.kind, documents, revision, after)
        if not self.table:
            return found
        return tables.table(self.kind, found["items"], self.now, metadata=found["metadata"], include=self.include)


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list goes on."""

    revision: int
    """At which the first page was read."""
    after: str
    """The last name that was sent."""

    def token(self) -> str:
        """What a client hands back as ``continue``."""
        return base64.urlsafe_b64encode(json.dumps([self.revision, self.after]).encode()).decode()


def kind(request: Request) -> kinds.Kind:
    """The kind that the address names by its plural."""
    plural = request.path_params["plural"]
    found = kinds.BY_PLURAL.get(plural)
    if found is None:
        known = ", ".join(sorted(kinds.BY_PLURAL))
        raise answering.Refusal(404, f"there is no resource {plural[:80]!r} in {names.API_VERSION}; there are {known}")
    return found


def writable_kind(request: Request) -> kinds.Kind:
    """The kind, if callers may write it."""
    found = kind(request)
    if not found.writable:
        raise answering.Refusal(
            405, f"{found.plural} are written by the control plane only; read them", headers={"allow": "GET"}
        )
    return found


def name(request: Request) -> str:
    """The object's name in its one spelling."""
    return names.object_name(request.path_params["name"])


def form(request: Request, asked: kinds.Kind, now: datetime) -> Form:
    """The first form of ``Accept`` that there is: a Table if it is named before plain JSON."""
    table = False
    for part in request.headers.get("accept", "").split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        if media == "application/json":
            table = "as=Table" in parameters
            break
    include = request.query_params.get("includeObject", "Metadata")
    if include not in ("None", "Metadata", "Object"):
        raise answering.Refusal(400, f"includeObject is None, Metadata or Object, not {include[:80]!r}")
    return Form(asked, table, include, now)


def selector(request: Request, asked: kinds.Kind) -> selecting.Selector:
    """Which objects are meant."""
    query = request.query_params
    return selecting.parse(asked, query.get("labelSelector", ""), query.get("fieldSelector", ""))


def number(request: Request, key: str) -> int | None:
    """A whole number of the query."""
    text = request.query_params.get(key, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise answering.Refusal(400, f"{key} is a whole number, not {text[:80]!r}")
    return int(text)


def limit(request: Request) -> int | None:
    """How many objects a page may have; None: all."""
    found = number(request, "limit")
    return None if not found else min(found, MAX_LIMIT)


def flag(request: Request, key: str) -> bool:
    """A switch of the query: ``true``, ``1`` or bare."""
    text = request.query_params.get(key)
    if text is None or text.lower() in ("false", "0"):
        return False
    if text.lower() in ("true", "1", ""):
        return True
    raise answering.Refusal(400, f"{key} is true or false, not {text[:80]!r}")


def dry_run(request: Request, body: Json | None = None) -> bool:
    """Whether nothing is to be written (``dryRun=All``, in the query or in DeleteOptions)."""
    asked = [*request.query_params.getlist("dryRun"), *((body or {}).get("dryRun") or [])]
    if any(word != "All" for word in asked):
        raise answering.Refusal(400, f"dryRun has to be All, not {', '.join(map(str, asked))[:80]!r}")
    noted(request).dry = bool(asked)
    return bool(asked)


def noted(request: Request) -> Asked:
    """What the audit trail is told of this request; the guard has made it."""
    found: Asked = request.state.audit
    return found


def manager(request: Request, *, required: bool = False) -> str:
    """Who writes: ``fieldManager``, else the program of ``User-Agent``."""
    found = request.query_params.get("fieldManager", "")
    if not found and required:
        raise answering.Refusal(400, "fieldManager is required for an apply; add ?fieldManager=NAME")
    if len(found) > 128 or not found.isprintable():
        raise answering.Refusal(400, "fieldManager has at most 128 printable characters")
    found = found or request.headers.get("user-agent", "").partition("/")[0].strip()[:128] or "unknown"
    noted(request).manager = found
    return found


def page(request: Request) -> Page | None:
    """Where a list is to go on; 400 if the token is none of ours."""
    token = request.query_params.get("continue", "")
    if not token:
        return None
    try:
        revision, after = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        return Page(int(revision), str(after))
    except (ValueError, TypeError, binascii.Error) as error:
        raise answering.Refusal(400, "the continue token is none of this server's; list from the start") from error


def resource_version(request: Request) -> int | None:
    """From which revision on; None (also for 0): any."""
    try:
        return intaking.revision_of(request.query_params.get("resourceVersion"))
    except errors.Invalid as error:
        raise answering.Refusal(400, error.message) from error
