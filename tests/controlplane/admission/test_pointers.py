"""JSON pointers go there and back."""

from hypothesis import given
from hypothesis import strategies as st

from controlplane.admission import pointers


@given(st.lists(st.text()))
def test_join_and_split_undo_each_other(parts: list[str]) -> None:
    assert pointers.split(pointers.join(parts)) == parts


def test_the_examples_of_the_rfc_hold() -> None:
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8}
    assert pointers.get(document, "") == document
    assert pointers.get(document, "/foo/0") == "bar"
    assert pointers.get(document, "/") == 0
    assert pointers.get(document, "/a~1b") == 1
    assert pointers.get(document, "/m~0n") == 8


def test_what_is_not_there_is_missing() -> None:
    for pointer in ("/x", "/a/2", "/a/-", "/a/x", "/a/0/b"):
        assert pointers.get({"a": [1, 2]}, pointer) is pointers.MISSING


def test_people_read_dots_and_brackets() -> None:
    assert pointers.dotted("/spec/dependencies/0/name") == "spec.dependencies[0].name"
    assert pointers.dotted("") == ""
    assert pointers.parent("/a/b") == "/a"
