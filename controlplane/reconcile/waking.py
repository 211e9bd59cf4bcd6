"""Whom a change concerns: what the loop remembers of each module between its turns.

What always holds: memory is only about *who is looked at*, never about what is so; losing it costs one pass over
every module.  A status that this loop wrote itself wakes nobody but those who depend on what it says.

Pure over sightings.  Called by `looping` for every change of a Module.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from controlplane.reconcile.facts import Decision
from controlplane.reconcile.fleet import Order
from controlplane.store.records import Change, Record
from schemas import conditions, names
from schemas.meta import ConditionStatus, Json
from schemas.module import ModuleState

UNWRITTEN: Final[Order] = (1 << 62, 0)
"""Of a desired row that is being written: no worker can have come to it, whatever it reports."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What matters about one module to others and to its own next turn."""

    name: str
    uid: str
    generation: int = 0
    registered: bool = False
    """Whether this very generation is registered already: only workers have to do something."""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    serving: str | None = None
    """The serving version."""
    depends_on: frozenset[str] = frozenset()
    gone: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What a sighting brought that was not known."""

    intent: bool = False
    """A new object, generation or deletion: somebody wants something."""
    touched: bool = False
    """Something else that its own turn reads."""
    gone: bool = False
    dependents: frozenset[str] = frozenset()
    """Modules whose dependencies look different now."""
    touching: frozenset[str] = frozenset()
    """Modules that said something of the routes of one that is gone."""


@dataclass(slots=True)
class Memory:
    """Sightings by name, and who waits for what."""

    awaiting_fleet: dict[str, Order | None] = field(default_factory=dict)
    """Who waits for workers, and for which desired row's order; None: for whatever they say."""
    awaiting_claims: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Who waits for routes of others, and in which (apiVersion, namespace)."""
    _seen: dict[str, Sighting] = field(default_factory=dict)
    _needed_by: dict[str, set[str]] = field(default_factory=dict)
    _touching: dict[str, frozenset[str]] = field(default_factory=dict)
    """Whose routes a module's conditions speak of; only of modules that have been looked at."""
    _touched_by: dict[str, set[str]] = field(default_factory=dict)
    """The same the other way round: by whom a name is spoken of, so that it costs the same among thousands."""

    @property
    def known(self) -> AbstractSet[str]:
        """The names of all modules."""
        return self._seen.keys()

    def uid(self, name: str) -> str:
        """The uid that a name last had; empty: never seen."""
        seen = self._seen.get(name)
        return seen.uid if seen else ""

    def notice(self, new: Sighting) -> News:
        """Remember a sighting; what is new about it."""
        old = self._seen.get(new.name)
        if new.gone:
            if old is None or old.uid != new.uid:
                return News()
            touching = self.touch(new.name, frozenset())
            self.forget(new.name)
            return News(gone=True, dependents=self.dependents(new.name), touching=touching)
        self._seen[new.name] = new
        self._rewire(new.name, old.depends_on if old else frozenset(), new.depends_on)
        if old is None or (old.uid, old.generation, old.deleting) != (new.uid, new.generation, new.deleting):
            return News(intent=True, dependents=self.dependents(new.name))
        moved = old.serving != new.serving
        return News(
            touched=old.finalizers != new.finalizers,
            dependents=self.dependents(new.name) if moved else frozenset(),
        )

    def forget(self, name: str) -> None:
        """The module is gone; those that depend on it stay known."""
        old = self._seen.pop(name, None)
        if old is not None:
            self._rewire(name, old.depends_on, frozenset())
        self.awaiting_fleet.pop(name, None)
        self.awaiting_claims.pop(name, None)
        self._speak(name, self._touching.pop(name, frozenset()), frozenset())

    def await_for(self, name: str, decision: Decision, order: Order | None = None) -> None:
        """Note what a module waits for; ``order``: of its desired row, if that is known."""
        if decision.awaits_fleet:
            self.awaiting_fleet[name] = order
        else:
            self.awaiting_fleet.pop(name, None)
        if decision.awaits_claims and decision.contests:
            self.awaiting_claims[name] = (decision.contests[0].api_version, decision.contests[0].namespace)
        else:
            self.awaiting_claims.pop(name, None)

    def told(self, name: str, order: Order) -> None:
        """A desired row is written: who waits for workers to come to it waits for this order."""
        if self.awaiting_fleet.get(name) == UNWRITTEN:
            self.awaiting_fleet[name] = order

    def touch(self, name: str, touching: frozenset[str]) -> frozenset[str]:
        """Note of whose routes a module's conditions speak now; for whom that is news, as they stand on both sides."""
        before = self._touching.get(name)
        if before == touching:
            return frozenset()
        self._touching[name] = touching
        self._speak(name, before or frozenset(), touching)
        saying = frozenset(self._touched_by.get(name, ()))
        return ((before or frozenset()) ^ touching) | (saying - touching)

    def reached(self, before: Order, after: Order) -> list[tuple[str, Order | None]]:
        """Who waits for a row that a worker has come to on its way from ``before`` to ``after``, and for which."""
        return [
            (name, order)
            for name, order in self.awaiting_fleet.items()
            if order is None or after < before or before < order <= after
        ]

    def dependents(self, name: str) -> frozenset[str]:
        """Every module that depends on ``name``, over others too (a circle may have closed anywhere)."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for dependent in self._needed_by.get(todo.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    todo.append(dependent)
        return frozenset(found - {name})

    def _speak(self, name: str, old: AbstractSet[str], new: AbstractSet[str]) -> None:
        for other in old - new:
            self._touched_by[other].discard(name)
            if not self._touched_by[other]:
                del self._touched_by[other]
        for other in new - old:
            self._touched_by.setdefault(other, set()).add(name)

    def _rewire(self, name: str, old: AbstractSet[str], new: AbstractSet[str]) -> None:
        for other in old - new:
            self._needed_by[other].discard(name)
        for other in new - old:
            self._needed_by.setdefault(other, set()).add(name)


def sighting_of_record(record: Record) -> Sighting:
    """The sighting of a stored module."""
    return _sighting(record.document(), gone=False)


def sighting_of_change(change: Change) -> Sighting:
    """The sighting that a change of a module brings."""
    return _sighting(change.document, gone=change.type == "DELETED")


def _is_registered(status: Json, generation: int) -> bool:
    return any(
        entry["type"] == conditions.REGISTERED
        and entry["status"] == ConditionStatus.TRUE
        and entry.get("observedGeneration") == generation
        for entry in status.get("conditions", ())
    )


def is_at_rest(record: Record) -> bool:
    """Whether a stored module looks as if nothing is left to do for it."""
    status = record.status
    return (
        not record.deleting
        and status.get("state") == ModuleState.ACTIVE
        and status.get("observedGeneration") == record.generation
        and not any(entry.get("type") == conditions.STALLED for entry in status.get("conditions", ()))
    )


def _sighting(document: Json, *, gone: bool) -> Sighting:
    metadata = document["metadata"]
    status = document.get("status") or {}
    serving = status.get("serving") or {}
    dependencies = (document.get("spec") or {}).get("dependencies") or ()
    return Sighting(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        registered=_is_registered(status, metadata.get("generation", 0)),
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
        serving=serving.get("version"),
        depends_on=frozenset(names.object_name(str(entry["name"])) for entry in dependencies),
        gone=gone,
    )
