"""From what the code registers to what workers shall serve: routes, their effective policies, their claims.

Pure.  An inspection's report is a claim made by the module's own code, so every route of it is checked here;
what a person gets to read names the handler's file and line.  Called by `deciding` (and `loading`, to know
which claims to look for); the result goes into the desired row.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from controlplane.admission.conflicts import RouteConflict, RouteConflictDetector, WantedRoute
from controlplane.store.records import Claim
from schemas import paths, policies
from schemas.inspections import InspectionReport, RouteReport
from schemas.meta import Model
from schemas.module import DesiredModule, DesiredRoute, ModuleSpec, RouteStatus
from schemas.policies import AuthRequirement

_METHOD: Final = re.compile(r"[A-Z]{1,20}|\*")
_FORBIDDEN: Final = re.compile(r"//|\\|%|[\x00-\x20\x7f?#]")
_SHOWN = 5


class _Route(Model):
    """Of a desired route, what is claimed."""

    methods: list[str]
    path: str


class _Claiming(Model):
    """Of a desired module, what says which claims it needs."""

    api_version: str = "v1"
    namespace: str
    routes: list[_Route] = []


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a module's routes are not accepted."""

    reason: str
    message: str
    terminal: bool
    """Whether only a new generation can heal it."""
    conflicts: tuple[RouteConflict, ...] = ()
    """The routes that others hold."""


def wanted_routes(report: InspectionReport) -> list[WantedRoute]:
    """The reported routes, as the conflict detector wants them."""
    return [WantedRoute(tuple(route.methods), route.path) for route in report.routes]


def claims_of(desired: DesiredModule | _Claiming) -> list[tuple[str, str, str]]:
    """(method, shape, path) of every claim that a desired module needs, sorted."""
    return sorted(
        {
            (method, shape, route.path)
            for route in desired.routes
            for method, shape in paths.claims_of(route.methods, route.path)
        }
    )


def needless_claims(payload: str, held: Iterable[Claim]) -> bool:
    """Whether claims are held that a desired row's payload does not need."""
    wanted = _Claiming.model_validate_json(payload)
    keep = {(wanted.api_version, wanted.namespace, method, shape) for method, shape, _ in claims_of(wanted)}
    return any((claim.api_version, claim.namespace, claim.method, claim.shape) not in keep for claim in held)


def refusal(name: str, uid: str, spec: ModuleSpec, report: InspectionReport, rivals: Sequence[Claim]) -> Refusal | None:
    """What stands against the reported routes; None: nothing does."""
    ill = [problem for route in report.routes if (problem := _ill_formed(route))]
    if ill:
        return Refusal("InvalidRoute", several(ill), terminal=True)
    detector = RouteConflictDetector(rivals)
    found = detector.find(uid, name, spec.routing.api_version, spec.namespace(name), wanted_routes(report))
    for reason in ("ReservedRoute", "DuplicateRoute"):
        own = [conflict.message for conflict in found if conflict.reason == reason]
        if own:
            return Refusal(reason, several(own), terminal=True)
    undeclared = list(_undeclared(spec, report.routes))
    if undeclared:
        return Refusal("PermissionNotDeclared", several(undeclared), terminal=True)
    if found:
        said = several([conflict.message for conflict in found])
        return Refusal("RouteConflict", said, terminal=False, conflicts=tuple(found))
    return None


def desired_module(name: str, spec: ModuleSpec, report: InspectionReport) -> DesiredModule:
    """What workers are told to serve: the spec, and each route with its effective policy."""
    routes = [
        DesiredRoute(
            methods=sorted({method.upper() for method in route.methods}),
            path=route.path,
            policy=policies.conjoin(spec.auth, route.auth),
        )
        for route in report.routes
    ]
    return DesiredModule(
        entry_point=spec.entry_point,
        digest=spec.source.digest or "",
        source_path=top_name(spec),
        version=spec.version,
        display_name=spec.display_name,
        type=str(spec.type),
        stage=str(spec.stage),
        api_version=spec.routing.api_version,
        namespace=spec.namespace(name),
        routes=routes,
        tenancy=spec.tenancy,
        config=spec.config,
        health=spec.health,
        breaker=spec.breaker,
        bake_seconds=spec.rollout.bake_seconds,
        limits=spec.limits,
        worker_selector=spec.placement.worker_selector,
        loading=spec.loading,
    )


def route_statuses(desired: DesiredModule) -> list[RouteStatus]:
    """The routes as status shows them: one line per method."""
    return [
        RouteStatus(method=method, path=route.path, auth=str(route.policy.level))
        for route in desired.routes
        for method in route.methods
    ]


def top_name(spec: ModuleSpec) -> str:
    """The name of the package or file inside the packed source."""
    return PurePosixPath(spec.source_path()).name


def _ill_formed(route: RouteReport) -> str | None:
    where = f" ({route.location})" if route.location else ""
    shown = f"{'/'.join(route.methods) or 'a route'} {route.path!r}{where}"
    if not route.methods or not all(_METHOD.fullmatch(method.upper()) for method in route.methods):
        return f"{shown} names no HTTP method"
    if not route.path.startswith("/") or len(route.path) > 1024:
        return f"{shown}: a path starts with '/' and has at most 1024 characters"
    segments = route.path.split("/")
    if _FORBIDDEN.search(route.path) or "." in segments or ".." in segments:
        return f"{shown}: no request can reach it; write a path without '//', '.', '..', '%', '?', '#' or spaces"
    return None


def _undeclared(spec: ModuleSpec, routes: Iterable[RouteReport]) -> Iterable[str]:
    if not spec.permissions:
        return
    catalogue = set(spec.permissions)
    places: list[tuple[str, AuthRequirement | None]] = [("spec.auth", spec.auth)]
    for route in routes:
        where = f" ({route.location})" if route.location else ""
        places.append((f"{'/'.join(route.methods)} {route.path}{where}", route.auth))
    for place, requirement in places:
        for word in sorted(set(requirement.permissions if requirement else ()) - catalogue):
            close = difflib.get_close_matches(word, catalogue, 1)
            hint = f"did you mean {close[0]!r}?" if close else "add it to spec.permissions"
            yield f"{place} asks for permission {word!r}, which spec.permissions does not list; {hint}"


def several(messages: Sequence[str]) -> str:
    """Messages in one line, the first few of them."""
    more = len(messages) - _SHOWN
    return "; ".join(messages[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
