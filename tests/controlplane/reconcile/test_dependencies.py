"""Dependencies: npm's ranges against what serves, and circles as a path."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.reconcile import dependencies
from controlplane.reconcile.dependencies import Neighbour
from schemas.module import Dependency


def graph_of(edges: dict[str, str], version: str | None = "1.0.0") -> dict[str, Neighbour]:
    return {name: Neighbour(name, version, depends_on=tuple(others.split())) for name, others in edges.items()}


@pytest.mark.parametrize(
    ("version", "wanted", "inside"),
    [
        ("1.4.2", ">=1.2 <2", True),
        ("2.0.0", ">=1.2 <2", False),
        ("1.4.2", "^1.4", True),
        ("1.4.2", "~1.3", False),
        ("0.3.1", "^0.3", True),
        ("1.0.0-rc.1", "^1", False),
        ("1.0.0", "*", True),
        ("1.0.0", "1.x || 3", True),
        ("nonsense", "*", False),
        ("1.0.0", "what is this", False),
    ],
)
def test_ranges_follow_npm(version: str, wanted: str, inside: bool) -> None:
    assert dependencies.in_range(version, wanted) is inside


def test_a_circle_is_a_path_from_the_module_to_itself() -> None:
    graph = graph_of({"b": "c", "c": "a x", "x": ""})
    assert dependencies.find_cycle("a", ["b"], graph) == ["a", "b", "c", "a"]
    assert dependencies.find_cycle("a", ["x"], graph) is None
    assert dependencies.find_cycle("a", ["a"], graph) == ["a", "a"]


def test_a_circle_among_others_is_not_the_module_s_own() -> None:
    graph = graph_of({"b": "c", "c": "b"})
    assert dependencies.find_cycle("a", ["b"], graph) is None


@pytest.mark.parametrize(
    ("neighbour", "reason"),
    [
        (None, "DependencyMissing"),
        (Neighbour("b", None), "DependencyNotServing"),
        (Neighbour("b", "1.0.0", deleting=True), "DependencyDeleting"),
        (Neighbour("b", "0.9.0"), "DependencyVersion"),
        (Neighbour("b", "1.0.0"), "DependenciesServe"),
    ],
)
def test_a_dependency_is_met_by_what_serves(neighbour: Neighbour | None, reason: str) -> None:
    graph = {} if neighbour is None else {"b": neighbour}
    verdict = dependencies.judge("a", [Dependency(name="b", version="^1")], graph)
    assert verdict.reason == reason
    assert verdict.met is (reason == "DependenciesServe")
    assert verdict.message


def test_no_dependencies_are_met() -> None:
    assert dependencies.judge("a", [], {}).met


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=4)))
def test_a_found_circle_is_real_and_a_missed_one_does_not_exist(edges: dict[str, list[str]]) -> None:
    graph = {name: Neighbour(name, "1.0.0", depends_on=tuple(others)) for name, others in edges.items()}
    first = edges.get("a", [])
    cycle = dependencies.find_cycle("a", first, graph)
    reached = dependencies.reachable(first, graph.get)
    loops = "a" in first or any("a" in neighbour.depends_on for neighbour in reached.values())
    assert (cycle is not None) is loops
    if cycle is not None:
        assert cycle[0] == cycle[-1] == "a"
        assert all(onward in edges[here] for here, onward in itertools.pairwise(cycle))


def test_the_graph_is_read_no_further_than_its_limit() -> None:
    endless = dependencies.reachable(
        ["0"], lambda name: Neighbour(name, "1", depends_on=(str(int(name) + 1),)), limit=9
    )
    assert len(endless) == 9
