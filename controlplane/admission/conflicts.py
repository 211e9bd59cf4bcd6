"""Route conflicts: who already holds a route that a module needs.

Two routes are one when (apiVersion, namespace, method, path shape) are equal; parameter names do not count, and a
mounted application, which answers every method, is one with each route of another module on its shape.
Always holds: the older claim wins; the cost of a check depends on the routes asked for, never on how many are held.
Called by `controlplane.reconcile.accepting` with the store's claims.  Routes that differ and catch requests in common
are no conflict: see `controlplane.admission.shadowing`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from schemas import names, paths

Place: TypeAlias = tuple[str, str, str]
"""(apiVersion, namespace, path shape)."""

RESERVED: Final = "the gateway"
"""Who holds the routes that no module may have."""


class Held(Protocol):
    """One claim that somebody holds, such as `controlplane.store.records.Claim`."""

    @property
    def api_version(self) -> str:
        """Of the route."""
        ...

    @property
    def namespace(self) -> str:
        """Of the route."""
        ...

    @property
    def method(self) -> str:
        """In upper case."""
        ...

    @property
    def shape(self) -> str:
        """See `schemas.paths.path_shape`."""
        ...

    @property
    def path(self) -> str:
        """The template as its module writes it."""
        ...

    @property
    def uid(self) -> str:
        """Of the holder."""
        ...

    @property
    def module(self) -> str:
        """The holder's name."""
        ...

    @property
    def revision(self) -> int:
        """When it was taken, as the order of all claims has it."""
        ...

    @property
    def at(self) -> datetime:
        """When it was taken."""
        ...


@dataclass(frozen=True, slots=True)
class WantedRoute:
    """One route that a module registers."""

    methods: tuple[str, ...]
    path: str
    """The template as the module writes it."""

    def claims(self) -> list[tuple[str, str, str]]:
        """(method, shape, path), one per method: what the store's ``take_claims`` wants."""
        return [(method, shape, self.path) for method, shape in paths.claims_of(self.methods, self.path)]


@dataclass(frozen=True, slots=True)
class RouteConflict:
    """One route that a module cannot have."""

    api_version: str
    namespace: str
    method: str
    shape: str
    path: str
    """As the refused module writes it."""
    owner: str
    """The module that holds the route; the module itself for a duplicate; `RESERVED` for the gateway's own."""
    owner_path: str
    """As the owner writes it."""
    reason: str
    """``RouteConflict``, ``DuplicateRoute`` or ``ReservedRoute``."""

    @property
    def message(self) -> str:
        """What is wrong and what to do."""
        route = f"{self.method} {self.path} in {self.api_version}/{self.namespace}"
        if self.reason == "ReservedRoute":
            return f"{route} is answered by the gateway itself; supply a health check instead of this route."
        if self.reason == "DuplicateRoute":
            return f"{route} is registered twice by this module (also as {self.owner_path}); keep one of them."
        return (
            f"{route} is already held by module {self.owner} (as {self.owner_path}), whose claim is older; "
            "choose another path, or another routing.namespace or routing.apiVersion."
        )


class RouteConflictDetector:
    """A hash index of held routes; `find` tells which wanted ones clash."""

    def __init__(self, claims: Iterable[Held] = ()) -> None:
        """Start with ``claims``; of two on one route the older one counts."""
        self._held: dict[Place, dict[str, Held]] = {}
        self._of: dict[str, set[tuple[Place, str]]] = {}
        for claim in claims:
            self.add(claim)

    def __len__(self) -> int:
        """How many routes are held."""
        return sum(map(len, self._held.values()))

    def add(self, claim: Held) -> None:
        """Note a held route; a younger claim never replaces an older one."""
        place = (claim.api_version, claim.namespace, claim.shape)
        methods = self._held.setdefault(place, {})
        standing = methods.get(claim.method)
        if standing is not None and (standing.revision, standing.uid) <= (claim.revision, claim.uid):
            return
        if standing is not None:
            self._of[standing.uid].discard((place, claim.method))
        methods[claim.method] = claim
        self._of.setdefault(claim.uid, set()).add((place, claim.method))

    def release(self, uid: str) -> None:
        """Forget every route of one module."""
        for place, method in self._of.pop(uid, ()):
            del self._held[place][method]
            if not self._held[place]:
                del self._held[place]

    def owner(self, api_version: str, namespace: str, method: str, shape: str) -> Held | None:
        """Who holds a route."""
        return self._held.get((api_version, namespace, shape), {}).get(method)

    def find(
        self, uid: str, module: str, api_version: str, namespace: str, wanted: Iterable[WantedRoute]
    ) -> list[RouteConflict]:
        """Every wanted route that this uid cannot have, in the order asked for; empty: all are free or its own."""
        conflicts: list[RouteConflict] = []
        seen: dict[tuple[str, str], str] = {}
        for method, shape, path in _each(wanted):
            holder: tuple[str, str, str] | None
            if shape in names.RESERVED_ROUTES:
                holder = RESERVED, shape, "ReservedRoute"
            elif (method, shape) in seen:
                holder = module, seen[method, shape], "DuplicateRoute"
            else:
                holder = self._rival(uid, self._held.get((api_version, namespace, shape)), method)
            if holder is not None:
                conflicts.append(RouteConflict(api_version, namespace, method, shape, path, *holder))
            seen.setdefault((method, shape), path)
        return conflicts

    @staticmethod
    def _rival(uid: str, methods: Mapping[str, Held] | None, method: str) -> tuple[str, str, str] | None:
        """(owner, the owner's path, reason) of another module's oldest claim that stands against a method."""
        if methods is None:
            return None
        claims = (claim for claim in methods.values() if claim.uid != uid and paths.excludes(claim.method, method))
        oldest = min(claims, key=lambda claim: (claim.revision, claim.method), default=None)
        return None if oldest is None else (oldest.module, oldest.path, "RouteConflict")


def _each(wanted: Iterable[WantedRoute]) -> Iterator[tuple[str, str, str]]:
    for route in wanted:
        yield from route.claims()
