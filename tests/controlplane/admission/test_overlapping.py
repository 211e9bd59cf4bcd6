"""Whether templates meet is what Starlette's own patterns say of every path."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import compile_path

from controlplane.admission import overlapping
from dataplane.gateway import paths as gateway_paths

ALPHABET = ("a", "1", "2", "-", ".", "/")
PATHS = [
    path
    for length in range(6)
    for letters in product(ALPHABET, repeat=length)
    if gateway_paths.refusal((path := "/" + "".join(letters)).encode()) is None
]
"""Every path of up to five of these letters that a worker lets in."""

SEGMENTS = st.sampled_from(
    ["a", "1", "{s}", "{n:int}", "{f:float}", "{p:path}", "a{s}", "{s}-{n:int}", "a{p:path}", "{u:uuid}"]
)
TEMPLATES = st.builds(
    lambda parts, tail: "/" + "/".join(part.replace("{", f"{{p{at}") for at, part in enumerate(parts)) + tail,
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


def renamed(template: str) -> str:
    """With parameter names that differ from one another, as Starlette wants them."""
    parts = template.split("{")
    return parts[0] + "".join(f"{{q{at}{part}" for at, part in enumerate(parts[1:]))


def caught(template: str) -> set[str]:
    pattern = compile_path(renamed(template))[0]
    return {path for path in PATHS if pattern.match(path)}


@settings(deadline=None)
@given(TEMPLATES, TEMPLATES)
def test_templates_meet_where_a_path_is_caught_by_both(first: str, second: str) -> None:
    met = overlapping.meet(first, second)
    ours, theirs = caught(first), caught(second)
    if met is None:
        assert ours.isdisjoint(theirs)
        return
    for template in (first, second):
        assert compile_path(renamed(template))[0].match(met.example), (template, met)
    assert gateway_paths.refusal(met.example.encode()) is None
    if met.whole:
        assert ours <= theirs
    elif "uuid" not in first and first.count("{") == 1 and first.count("/") <= 2:
        assert not ours <= theirs, "these are short enough for the paths to tell"


@pytest.mark.parametrize(
    ("first", "second", "example", "whole"),
    [
        ("/a/{x}", "/a/{p:path}", "/a/x", True),
        ("/a/{p:path}", "/a/{x}", "/a/x", False),
        ("/users/{id}", "/users/me", "/users/me", False),
        ("/users/me", "/users/{id}", "/users/me", True),
        ("/{n:int}", "/{f:float}", "/1", True),
        ("/{f:float}", "/{n:int}", "/1", False),
        ("/a/{p:path}/b", "/{q:path}", "/a/x/b", True),
        ("/{x}-{y}", "/a{z}", "/a-x", False),
        ("/v{x}.json", "/{y}.json", "/vx.json", True),
    ],
)
def test_the_example_is_short_and_the_whole_is_told_from_a_part(
    first: str, second: str, example: str, whole: bool
) -> None:
    assert overlapping.meet(first, second) == overlapping.Meeting(example, whole)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a/{x}", "/b/{x}"),
        ("/a/{x}", "/a/{x}/"),
        ("/a/{x}", "/a/{x}/{y}"),
        ("/{n:int}", "/a{x}"),
        ("/{u:uuid}", "/{n:int}/x"),
        ("/a/{p:path}", "/a"),
        ("/{u:uuid}", "/{f:float}x"),
    ],
)
def test_templates_that_share_no_path_do_not_meet(first: str, second: str) -> None:
    assert overlapping.meet(first, second) is None
    assert overlapping.meet(second, first) is None


def test_a_number_may_be_a_uuid() -> None:
    met = overlapping.meet("/{u:uuid}", "/{n:int}")
    assert met is not None
    assert compile_path("/{u:uuid}")[0].match(met.example)
    assert met.example[1:].isdigit()
    assert not met.whole


def test_a_converter_of_the_authors_own_may_catch_anything() -> None:
    assert overlapping.meet("/{x:colour}", "/a/b") is not None


def test_a_template_written_to_cost_much_is_given_up_in_time() -> None:
    first = "/{p:path}" + "".join(f"a{{p{at}:path}}" for at in range(100))
    second = "/{p:path}" + "".join(f"b{{p{at}:path}}" for at in range(100))
    assert overlapping.meet(first, second) == overlapping.Meeting("", whole=False)
