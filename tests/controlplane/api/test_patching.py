"""JSON Patch, by the examples of RFC 6902 and beyond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import errors
from controlplane.api import answering, patching
from schemas.meta import Json


def patched(document: Json, *operations: Json) -> Json:
    return patching.apply(document, patching.operations(list(operations)))


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"baz": "qux", "foo": "bar"}),
        ({"foo": [1, 3]}, {"op": "add", "path": "/foo/1", "value": 2}, {"foo": [1, 2, 3]}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/-", "value": [2]}, {"foo": [1, [2]]}),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/b"}, {"a": 1}),
        ({"foo": [1, 2, 3]}, {"op": "remove", "path": "/foo/1"}, {"foo": [1, 3]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": 2}, {"a": 2}),
        ({"l": [1, 2]}, {"op": "replace", "path": "/l/0", "value": 9}, {"l": [9, 2]}),
        ({"a": {"x": 1}, "b": {}}, {"op": "move", "from": "/a/x", "path": "/b/y"}, {"a": {}, "b": {"y": 1}}),
        ({"a": {"x": 1}}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a": None}, {"op": "test", "path": "/a", "value": None}, {"a": None}),
        ({"a/b": 1, "m~n": 2}, {"op": "replace", "path": "/a~1b", "value": 3}, {"a/b": 3, "m~n": 2}),
        ({"a": 1}, {"op": "replace", "path": "", "value": {"b": 2}}, {"b": 2}),
    ],
)
def test_operations(before: Json, operation: Json, after: Json) -> None:
    assert patched(before, operation) == after


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/nowhere"},
        {"op": "replace", "path": "/nowhere", "value": 1},
        {"op": "add", "path": "/no/where", "value": 1},
        {"op": "add", "path": "/l/7", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "replace", "path": "", "value": 7},
    ],
)
def test_what_cannot_be_done_names_the_operation(operation: Json) -> None:
    with pytest.raises(errors.Invalid, match=r"operation 0|no object"):
        patched({"a": 1, "l": []}, operation)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [1],
        [{"op": "jump", "path": "/a"}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "move", "path": "/a"}],
        [{"op": "remove"}],
        [{"op": "remove", "path": "/a"}] * 1001,
    ],
)
def test_a_body_that_is_no_patch_is_refused(body: object) -> None:
    with pytest.raises(answering.Refusal) as caught:
        patching.operations(body)
    assert caught.value.code == 400


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=5), st.text(max_size=5), st.integers())
def test_add_then_remove_is_nothing_and_the_original_is_untouched(before: Json, key: str, value: int) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    copy = dict(before)
    assert patched(before, {"op": "add", "path": path, "value": value})[key] == value
    rest = patched(before, {"op": "add", "path": path, "value": value}, {"op": "remove", "path": path})
    assert rest == {name: item for name, item in before.items() if name != key}
    assert before == copy
