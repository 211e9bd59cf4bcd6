"""Dependencies between modules: whether those of one are met, and whether they run in a circle.

Pure.  A dependency is met by what the other module serves, not by what is asked for it; ranges follow npm's
grammar (node-semver).  Called by `controlplane.reconcile.deciding` over a graph that `loading` has read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nodesemver import satisfies

from schemas import names
from schemas.module import Dependency


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What one module's dependencies need to know of another module."""

    name: str
    serving_version: str | None
    """The version that traffic gets; None: it serves nothing yet."""
    deleting: bool = False
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a module's dependencies are met, for a condition."""

    met: bool
    reason: str
    message: str
    cyclic: bool = False


def in_range(version: str, wanted: str) -> bool:
    """Whether ``version`` lies in the npm range ``wanted``; nonsense on either side does not."""
    try:
        return bool(satisfies(version, wanted, loose=False))
    except ValueError:
        return False


def judge(name: str, dependencies: Iterable[Dependency], graph: Mapping[str, Neighbour]) -> Verdict:
    """The verdict on ``dependencies`` of the module ``name``."""
    wanted = [(names.object_name(dependency.name), dependency.version) for dependency in dependencies]
    if not wanted:
        return Verdict(True, "NoDependencies", "the module depends on no other")
    cycle = find_cycle(name, [other for other, _ in wanted], graph)
    if cycle is not None:
        path = " → ".join(cycle)
        return Verdict(
            False,
            "DependencyCycle",
            f"the dependencies run in a circle: {path}; remove one of them from spec.dependencies",
            cyclic=True,
        )
    problems = [problem for other, version in wanted if (problem := _lacking(other, version, graph.get(other)))]
    if problems:
        return Verdict(False, problems[0][0], "; ".join(message for _, message in problems))
    served = ", ".join(f"{other} {graph[other].serving_version}" for other, _ in wanted)
    return Verdict(True, "DependenciesServe", f"every dependency serves: {served}")


def find_cycle(name: str, first: Iterable[str], graph: Mapping[str, Neighbour]) -> list[str] | None:
    """The shortest way from ``name`` over its dependencies ``first`` back to itself, both ends included."""
    came_from: dict[str, str] = {}
    front = []
    for other in first:
        if other == name:
            return [name, name]
        if other not in came_from:
            came_from[other] = name
            front.append(other)
    while front:
        following: list[str] = []
        for here in front:
            neighbour = graph.get(here)
            for onward in neighbour.depends_on if neighbour else ():
                if onward == name:
                    return _path(name, here, came_from)
                if onward not in came_from:
                    came_from[onward] = here
                    following.append(onward)
        front = following
    return None


def reachable(first: Iterable[str], look: Callable[[str], Neighbour | None], limit: int = 2000) -> dict[str, Neighbour]:
    """The modules that ``first`` leads to over dependencies, looked up one by one; at most ``limit``."""
    found: dict[str, Neighbour] = {}
    seen: set[str] = set()
    todo = [*first]
    while todo and len(seen) < limit:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        neighbour = look(here)
        if neighbour is not None:
            found[here] = neighbour
            todo.extend(neighbour.depends_on)
    return found


def _lacking(name: str, wanted: str, neighbour: Neighbour | None) -> tuple[str, str] | None:
    if neighbour is None:
        return "DependencyMissing", f"waiting for module {name}, which does not exist; apply it"
    if neighbour.deleting:
        return "DependencyDeleting", f"module {name} is being deleted; apply it again or drop the dependency"
    if neighbour.serving_version is None:
        return "DependencyNotServing", f"waiting for module {name}, which does not serve yet"
    if not in_range(neighbour.serving_version, wanted):
        return (
            "DependencyVersion",
            f"waiting for module {name} {wanted}; it serves {neighbour.serving_version}",
        )
    return None


def _path(name: str, last: str, came_from: Mapping[str, str]) -> list[str]:
    path = [name, last]
    while path[-1] != name:
        path.append(came_from[path[-1]])
    return [path[0], *reversed(path[1:-1]), name]
