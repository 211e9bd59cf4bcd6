"""What the control plane would refuse of a module's routes, said while they are written.  Pure.

The last word is the control plane's, which also knows the modules that are not here; `controlplane.reconcile.accepting`
has the same rules, and a test holds the two together.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from dataplane.errors import LoadFailed
from dataplane.workshop.manifests import Manifest
from schemas import paths
from schemas.inspections import InspectionReport
from schemas.module import DesiredModule

Route = tuple[str, str, str]
"""(apiVersion, namespace, path shape)."""
Held = Mapping[Route, Mapping[str, str]]
"""Which module has which method of a route."""

CONFLICT = "RouteConflict"

_SHOWN = 5


def held(modules: Iterable[tuple[str, DesiredModule]]) -> Held:
    """Who has which route of (name, what it serves) pairs."""
    found: dict[Route, dict[str, str]] = {}
    for name, desired in modules:
        for route in desired.routes:
            for method, shape in paths.claims_of(route.methods, route.path):
                found.setdefault((desired.api_version, desired.namespace, shape), {})[method] = name
    return found


def check(manifest: Manifest, report: InspectionReport, others: Held) -> None:
    """Nothing, if the routes would be accepted beside ``others``; else LoadFailed with the control plane's reason."""
    address = (manifest.spec.routing.api_version, manifest.spec.namespace(manifest.name))
    _refuse("DuplicateRoute", _doubles(report))
    _refuse("PermissionNotDeclared", _undeclared(manifest, report))
    _refuse(CONFLICT, _clashes(report, address, others))


def _refuse(reason: str, found: Iterator[str]) -> None:
    messages = list(found)
    if messages:
        more = len(messages) - _SHOWN
        raise LoadFailed(reason, "; ".join(messages[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""))


def _doubles(report: InspectionReport) -> Iterator[str]:
    seen: dict[tuple[str, str], str] = {}
    for route in report.routes:
        for claim in paths.claims_of(route.methods, route.path):
            if claim in seen:
                first = f" (first in {seen[claim]})" if seen[claim] else ""
                yield f"{_at(route.location)}{claim[0]} {route.path} is registered twice{first}; keep one of them"
            seen.setdefault(claim, route.location)


def _undeclared(manifest: Manifest, report: InspectionReport) -> Iterator[str]:
    catalogue = set(manifest.spec.permissions)
    if not catalogue:
        return
    places = [(_at(route.location), "/".join(route.methods) + f" {route.path}", route.auth) for route in report.routes]
    for at, what, requirement in [("", "spec.auth", manifest.spec.auth), *places]:
        for word in sorted(set(requirement.permissions if requirement else ()) - catalogue):
            close = difflib.get_close_matches(word, catalogue, 1)
            advice = f"did you mean {close[0]!r}?" if close else "add it to spec.permissions"
            yield f"{at}{what} asks for permission {word!r}, which spec.permissions does not list; {advice}"


def _clashes(report: InspectionReport, address: tuple[str, str], others: Held) -> Iterator[str]:
    for route in report.routes:
        for method, shape in paths.claims_of(route.methods, route.path):
            methods = others.get((*address, shape), {})
            owner = next((methods[each] for each in sorted(methods) if paths.excludes(each, method)), None)
            if owner is not None:
                what = f"{method} {route.path} in {'/'.join(address)}"
                yield f"{_at(route.location)}{what} is held by module {owner}; choose another path or namespace"


def _at(location: str) -> str:
    return f"{location}: " if location else ""
