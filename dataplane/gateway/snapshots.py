"""The immutable picture that a request reads once: every module in service and the table that finds its routes.

A change makes a new snapshot that shares all that did not change; publishing it is one assignment
(`dataplane.gateway.hosting`).  Only namespaces of the changed module get a new matcher.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from dataplane.gateway.matching import Matcher
from dataplane.gateway.serving import Served, Target
from dataplane.gateway.standing import Standing

Key = tuple[str, str]
"""(API version, namespace)."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One address space of routes, which several modules may share."""

    matcher: Matcher[Target]
    members: tuple[Served, ...]

    @property
    def healthy(self) -> bool:
        """Whether every module here serves, and its own check does not say otherwise."""
        return all(member.trouble is None and member.pulse.well for member in self.members)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is served, all of it, at one moment."""

    number: int = 0
    """Counts publications within a boot."""
    modules: Mapping[str, Served] = field(default_factory=dict)
    """By name, in the order in which they were installed."""
    table: Mapping[Key, Namespace] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    """Flags, tenants and revocations."""
    turn: int = 0
    """Counts the publications of another standing within a boot."""

    def with_standing(self, standing: Standing) -> "Snapshot":
        """This picture with other flags, tenants and revocations."""
        return replace(self, number=self.number + 1, standing=standing, turn=self.turn + 1)

    def with_module(self, served: Served) -> "Snapshot":
        """This picture with ``served`` instead of any module of its name."""
        return self._changed(served.name, served)

    def without(self, name: str) -> "Snapshot":
        """This picture without the module ``name``."""
        return self._changed(name, None) if name in self.modules else self

    def _changed(self, name: str, served: Served | None) -> "Snapshot":
        modules = dict(self.modules)
        before = modules.pop(name, None)
        if served is not None:
            modules[name] = served
        table = dict(self.table)
        for key in {member.key for member in (before, served) if member is not None}:
            known = self.table[key].members if key in self.table else ()
            members = [member for member in known if member.name != name]
            if served is not None and served.key == key:
                members.append(served)
            if members:
                # the newest last: where two modules claim one route for a moment, the newer claim counts
                routes = chain.from_iterable(member.routes for member in members)
                table[key] = Namespace(Matcher(routes), tuple(members))
            else:
                del table[key]
        return replace(self, number=self.number + 1, modules=modules, table=table)
