"""Path shapes: what is the same route, whatever its parameters are called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import paths


@pytest.mark.parametrize(
    ("template", "shape"),
    [
        ("/users/{id}", "/users/{}"),
        ("/users/{name:str}", "/users/{}"),
        ("/items/{n:int}", "/items/{:int}"),
        ("/files/{rest:path}", "/files/{:path}"),
        ("/a/{x}/b/{y:float}", "/a/{}/b/{:float}"),
        ("/v{major}.{minor}", "/v{}.{}"),
        ("/plain/", "/plain/"),
        ("/{}", "/{{}}"),
        ("/{{x}}", "/{{{}}}"),
        ("/a}b", "/a}}b"),
    ],
)
def test_parameters_lose_their_names_and_keep_their_converters(template: str, shape: str) -> None:
    assert paths.path_shape(template) == shape


NAMES = st.from_regex(re.compile(r"[a-z_][a-z0-9_]{0,3}"), fullmatch=True)


@given(st.lists(st.tuples(NAMES, NAMES, st.sampled_from(["", ":str", ":int", ":path"])), max_size=4))
def test_renaming_parameters_never_changes_the_shape(parts: list[tuple[str, str, str]]) -> None:
    one = "".join(f"/x/{{{first}{converter}}}" for first, _, converter in parts)
    other = "".join(f"/x/{{{second}{converter}}}" for _, second, converter in parts)
    assert paths.path_shape(one) == paths.path_shape(other)


def test_a_route_claims_each_method_once() -> None:
    assert paths.claims_of(["get", "POST", "get"], "/a/{b}") == [("GET", "/a/{}"), ("POST", "/a/{}")]


@pytest.mark.parametrize(
    ("template", "stem"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/{x}", "/"),
        ("/a/{x}/b", "/a/"),
        ("/a/pre-{x}", "/a/"),
        ("/a/b/{p:path}", "/a/b/"),
    ],
)
def test_a_stem_is_what_every_path_of_a_template_begins_with(template: str, stem: str) -> None:
    assert paths.stem(template) == stem
    assert stem < paths.after(stem)
    assert (f"{stem}zzz" < paths.after(stem)) is stem.endswith("/")


def test_the_more_specific_template_comes_first() -> None:
    ordered = [
        "/users/me",
        "/users/ve{x}",
        "/users/{a}-{b}",
        "/users/{u:uuid}",
        "/users/{n:int}",
        "/users/{f:float}",
        "/users/{id}",
        "/users/{p:path}/edit",
        "/users/{p:path}",
        "/{a}/{b}",
        "/{p:path}",
    ]
    assert sorted(sorted(ordered), key=paths.precedence) == ordered


def test_a_mount_leaves_no_room_on_its_shape() -> None:
    assert paths.excludes("*", "GET")
    assert paths.excludes("WEBSOCKET", "*")
    assert paths.excludes("GET", "GET")
    assert not paths.excludes("GET", "HEAD")
