"""Configuration against its schema: exact places, no fetching, no explosion."""

import time
from typing import Any

import pytest

from controlplane.admission import configuring, validating
from schemas.meta import Json

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "limit": {"type": "integer", "minimum": 1},
        "colour": {"enum": ["red", "green"]},
        "nested": {"type": "array", "items": {"type": "object", "required": ["a"]}},
    },
    "required": ["limit"],
    "additionalProperties": False,
}


def faults(schema: Json, config: Json) -> dict[str, str]:
    document = {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": "thing"},
        "spec": {"entryPoint": "thing:Thing", "configSchema": schema, "config": config},
    }
    return {found.pointer: found.message for found in validating.validate(document)[1]}


def test_a_configuration_that_fits_is_valid() -> None:
    assert faults(SCHEMA, {"limit": 3, "colour": "red", "nested": [{"a": 1}]}) == {}


def test_every_misfit_is_told_at_its_place() -> None:
    found = faults(SCHEMA, {"limit": 0, "colour": "gren", "nested": [{"a": 1}, {}]})
    assert set(found) == {"/spec/config/limit", "/spec/config/colour", "/spec/config/nested/1"}
    assert "less than the minimum of 1" in found["/spec/config/limit"]
    assert "Did you mean 'green'?" in found["/spec/config/colour"]
    assert '"a" is a required property' in found["/spec/config/nested/1"]


def test_a_configuration_left_out_is_an_empty_one() -> None:
    assert set(faults(SCHEMA, {})) == {"/spec/config"}


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"type": "strin"}, "/spec/configSchema/type", "is no valid JSON Schema"),
        ({"properties": {"a": {"minimum": "x"}}}, "/spec/configSchema/properties/a/minimum", "is no valid JSON Schema"),
        ({"$ref": "http://127.0.0.1/x.json"}, "/spec/configSchema/$ref", "nothing is fetched"),
        ({"items": [{"$ref": "file:///etc/passwd"}]}, "/spec/configSchema/items/0/$ref", "nothing is fetched"),
        ({"$defs": {"a": {"$id": "x"}}}, "/spec/configSchema/$defs/a/$id", "an address of its own"),
        ({"$schema": 3}, "/spec/configSchema/$schema", "is no valid JSON Schema"),
        ({"$ref": "#/$defs/none"}, "/spec/configSchema", "is no valid JSON Schema"),
        ({"$schema": "http://example.com/own"}, "/spec/configSchema", "is no valid JSON Schema"),
        ({"properties": {"a": {"pattern": "("}}}, "/spec/configSchema/properties/a/pattern", "is no valid JSON Schema"),
    ],
)
def test_a_broken_schema_is_told_at_its_place(schema: Json, pointer: str, words: str) -> None:
    found = faults(schema, {"a": "b"})
    assert list(found) == [pointer]
    assert words in found[pointer]


def test_schemas_that_point_at_themselves_are_fine() -> None:
    tree: Json = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert faults(tree, {"left": {"left": {}, "right": {}}}) == {}
    assert "/spec/config/left/right" in faults(tree, {"left": {"right": 3}})


def doubling(levels: int, leaf: Json) -> Json:
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}, {"$ref": f"#/$defs/d{level + 1}"}]}
        for level in range(levels)
    }
    definitions[f"d{levels}"] = leaf
    return {"$ref": "#/$defs/d0", "$defs": definitions}


def through_properties(levels: int) -> Json:
    """Doubles at each level of the instance, by a loop that each turn passes twice."""
    turn = {"properties": {"a": {"$ref": "#/$defs/turn"}}}
    return {"$ref": "#/$defs/turn", "$defs": {"turn": {"allOf": [turn, turn], "minProperties": levels}}}


def test_a_schema_that_multiplies_itself_is_refused_before_it_is_used() -> None:
    started = time.monotonic()
    assert "multiplies itself" in faults(doubling(40, {"type": "string"}), {})["/spec/configSchema"]
    deep: Json = {}
    for _ in range(25):
        deep = {"a": deep}
    assert "multiplies itself" in faults(through_properties(1), deep)["/spec/configSchema"]
    assert time.monotonic() - started < 5


def test_much_work_tells_the_first_misfit_only() -> None:
    leaf: Json = {"type": "string"}
    assert len(configuring.violations(doubling(8, leaf), {})) == configuring.MAX_FINDINGS
    assert len(configuring.violations(doubling(15, leaf), {})) == 1
    assert configuring.violations(doubling(15, {"type": "object"}), {}) == []


def test_a_schema_that_is_too_deep_in_references_is_refused() -> None:
    chain: Json = {"$defs": {f"d{level}": {"$ref": f"#/$defs/d{level + 1}"} for level in range(1000)}}
    assert "multiplies itself" in faults({**chain, "$ref": "#/$defs/d0"}, {"a": 1})["/spec/configSchema"]


def test_expressions_cannot_explode() -> None:
    started = time.monotonic()
    schema = {"properties": {"a": {"pattern": r"^(?=(a+)+$)(a|aa)+\1$"}, "b": {"pattern": "^(a+)+$"}}}
    assert faults(schema, {"a": "a" * 50_000 + "b", "b": "a" * 10_000 + "b"})
    assert time.monotonic() - started < 5


def test_misfits_are_counted_out_at_some_point() -> None:
    schema: Json = {"additionalProperties": {"type": "string"}}
    found = configuring.violations(schema, {f"k{index}": index for index in range(200)})
    assert len(found) == configuring.MAX_FINDINGS
