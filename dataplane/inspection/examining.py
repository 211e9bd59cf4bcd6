"""Import packed code and tell what it is: its candidates, or one entry point with its routes.

Runs in a throw-away child (`dataplane.inspection.children`); whatever the code does wrong ends in a report.
"""

import errno
import inspect
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dataplane.errors import LoadFailed
from dataplane.inspection import confining
from dataplane.runtime import assembling
from dataplane.runtime.collecting import CollectedRoute
from dataplane.runtime.importing import Code, library
from dataplane.sdk import BaseModuleRouter
from schemas.inspections import (
    CandidateReport,
    InspectionOutcome,
    InspectionReport,
    InspectionRequest,
    RouteReport,
)
from schemas.meta import Json

_MARKS: Final = (b"BaseModuleRouter", b"register_routes")
"""A file without one of these words defines no module, and is not imported to find out."""

_PROCESSES: Final = f"{confining.PROCESSES} processes and threads"
_LIMITED: Final = {
    errno.EAGAIN: _PROCESSES,
    errno.EFBIG: f"{confining.FILE >> 20} MiB for each file and for what it prints",
    errno.EMFILE: f"{confining.FILES} open files",
    errno.ENOMEM: f"{confining.MEMORY >> 30} GiB of memory",
}


def examine(request: InspectionRequest) -> InspectionReport:
    """The report on what ``request`` names; never raises for what the code does."""
    code = code_of(request)
    library.acquire(code)
    try:
        if request.entry_point is None:
            candidates = [_candidate(kind, code) for kind in find(code)]
            return InspectionReport(id=request.id, outcome=InspectionOutcome.OK, candidates=candidates)
        assembled = assembling.assemble(code, request.entry_point, request.config)
        return InspectionReport(
            id=request.id,
            outcome=InspectionOutcome.OK,
            candidates=[_candidate_of(assembled.module, request.entry_point, code)],
            routes=[_route(route) for route in assembled.routes],
        )
    except LoadFailed as failure:
        message = f"{failure.message}{_hint(failure.__cause__)}"
        return InspectionReport(id=request.id, outcome=InspectionOutcome.FAILED, reason=failure.reason, message=message)
    finally:
        library.release(code)


def _hint(error: BaseException | None) -> str:
    """Which limit of an inspection the code has met, if it has."""
    if isinstance(error, MemoryError):
        what = f"{confining.MEMORY >> 30} GiB of memory"
    elif isinstance(error, OSError) and isinstance(error.errno, int) and error.errno in _LIMITED:
        what = _LIMITED[error.errno]
    elif type(error) is RuntimeError and "can't start new thread" in str(error):
        what = _PROCESSES
    else:
        return ""
    return f"; code has {what} while it is inspected: take what you need in on_startup(), not at import"


def code_of(request: InspectionRequest) -> Code:
    """Where the code of ``request`` lies."""
    top = request.source_path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".py")
    return Code(top=top, digest=request.digest, folder=Path(request.root))


def find(code: Code) -> list[type[BaseModuleRouter]]:
    """Every concrete ``BaseModuleRouter`` subclass that ``code`` defines under a name of its own, in name order."""
    if not code.exists():
        raise LoadFailed("SourceMissing", f"there is neither {code.top}/ nor {code.top}.py in {code.folder}")
    with assembling.author("ImportFailed", code):
        for name in _names(code):
            code.load(name)
        found = [kind for kind in _subclasses(BaseModuleRouter) if _offered(kind, code)]
        return sorted(set(found), key=lambda kind: (kind.__module__, kind.__qualname__))


def _names(code: Code) -> Iterator[str]:
    """The author's names of all Python modules worth importing, the top first."""
    yield code.top
    root = code.folder / code.top
    for file in sorted(root.rglob("*.py")):
        inner = file.relative_to(code.folder).with_suffix("").parts
        if inner[-1] == "__main__" or inner == (code.top, "__init__") or not all(map(str.isidentifier, inner)):
            continue
        if any(mark in file.read_bytes() for mark in _MARKS):
            yield ".".join(inner[:-1] if inner[-1] == "__init__" else inner)


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _offered(kind: type[Any], code: Code) -> bool:
    inside = kind.__module__ == code.mangled or kind.__module__.startswith(f"{code.mangled}.")
    if not inside or inspect.isabstract(kind) or kind.__name__.startswith("_"):
        return False
    try:
        return operator.attrgetter(kind.__qualname__)(sys.modules.get(kind.__module__)) is kind
    except AttributeError:
        return False


def _candidate(kind: type[BaseModuleRouter], code: Code) -> CandidateReport:
    entry_point = f"{code.plain(kind.__module__)}:{kind.__qualname__}"
    return _candidate_of(assembling.instantiate(kind, code), entry_point, code)


def _candidate_of(module: BaseModuleRouter, entry_point: str, code: Code) -> CandidateReport:
    with assembling.author("MetadataInvalid", code):
        words = module.metadata
        report = CandidateReport(
            entry_point=entry_point,
            module_id=words.module_id,
            name=words.name,
            version=words.version,
            type=str(words.module_type),
            description=words.description,
            author=words.author,
            api_version=words.routing.api_version,
            namespace=words.routing.namespace,
            permissions=list(words.permissions),
            feature_flags=list(words.feature_flags),
            dependencies=_dependencies(words.dependencies),
            config_schema=dict(words.config_schema),
            default_config=dict(words.default_config),
        )
        report.model_dump_json()
    return report


def _dependencies(given: Iterable[str | Mapping[str, str]]) -> list[Json]:
    return [{"name": one} if isinstance(one, str) else dict(one) for one in given]


def _route(route: CollectedRoute) -> RouteReport:
    return RouteReport(
        methods=list(route.methods), path=route.path, name=route.name, auth=route.auth, location=route.location
    )
