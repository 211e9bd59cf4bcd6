"""Route conflicts: who already holds a route that a module needs.

Two routes are one when (apiVersion, namespace, method, path shape) are equal; parameter names do not count.
Always holds: the older claim wins; the cost of a check depends on the routes asked for, never on how many are
held.  Called by the reconciler (against the store's claims), by ``modplane validate`` and the management API.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from schemas import names, paths

Key: TypeAlias = tuple[str, str, str, str]
"""(apiVersion, namespace, method, path shape)."""

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
        """Start with ``claims``; of two on one key the older one counts."""
        self._held: dict[Key, Held] = {}
        self._of: dict[str, set[Key]] = {}
        for claim in claims:
            self.add(claim)

    def __len__(self) -> int:
        """How many routes are held."""
        return len(self._held)

    def add(self, claim: Held) -> None:
        """Note a held route; a younger claim never replaces an older one."""
        key = (claim.api_version, claim.namespace, claim.method, claim.shape)
        standing = self._held.get(key)
        if standing is not None and (standing.revision, standing.uid) <= (claim.revision, claim.uid):
            return
        if standing is not None:
            self._of[standing.uid].discard(key)
        self._held[key] = claim
        self._of.setdefault(claim.uid, set()).add(key)

    def release(self, uid: str) -> None:
        """Forget every route of one module."""
        for key in self._of.pop(uid, ()):
            del self._held[key]

    def owner(self, api_version: str, namespace: str, method: str, shape: str) -> Held | None:
        """Who holds a route."""
        return self._held.get((api_version, namespace, method, shape))

    def find(
        self, uid: str, module: str, api_version: str, namespace: str, wanted: Iterable[WantedRoute]
    ) -> list[RouteConflict]:
        """Every wanted route that this uid cannot have, in the order asked for; empty: all are free or its own."""
        conflicts: list[RouteConflict] = []
        seen: dict[tuple[str, str], str] = {}
        for method, shape, path in _each(wanted):
            holder = self._holder(seen, uid, module, (api_version, namespace, method, shape))
            if holder is not None:
                conflicts.append(RouteConflict(api_version, namespace, method, shape, path, *holder))
            seen.setdefault((method, shape), path)
        return conflicts

    def _holder(self, seen: dict[tuple[str, str], str], uid: str, module: str, key: Key) -> tuple[str, str, str] | None:
        """(owner, the owner's path, reason) of what stands against a key."""
        _, _, method, shape = key
        if shape in names.RESERVED_ROUTES:
            return RESERVED, shape, "ReservedRoute"
        if (method, shape) in seen:
            return module, seen[method, shape], "DuplicateRoute"
        held = self._held.get(key)
        if held is not None and held.uid != uid:
            return held.module, held.path, "RouteConflict"
        return None


def _each(wanted: Iterable[WantedRoute]) -> Iterator[tuple[str, str, str]]:
    for route in wanted:
        yield from route.claims()
