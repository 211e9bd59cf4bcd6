"""The work of a schema is counted, not done."""

from typing import Any

import pytest

from controlplane.admission import budgeting


@pytest.mark.parametrize(
    ("schema", "value", "most"),
    [
        ({}, {}, 0),
        ({"type": "object"}, 3, 1),
        ({"properties": {"a": {"type": "string"}, "b": True}}, {"a": 1, "b": 2}, 3),
        ({"properties": {"a": {"type": "string"}}}, {"c": 1}, 1),
        ({"additionalProperties": {"type": "string"}, "propertyNames": {"minLength": 1}}, {"a": 1, "b": 2}, 6),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1, 2], 6),
        ({"items": [{"type": "string"}]}, ["a", 1, 2], 2),
        ({"not": {"type": "string"}, "if": True, "dependentSchemas": {"a": {"minimum": 1}}}, 1, 6),
        ({"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "string"}}}, 1, 4),
        ({"$ref": "#/nowhere"}, 1, 2),
        ({"$ref": "#"}, 1, 1),
        ({"unevaluatedProperties": False, "allOf": [{"type": "object"}]}, {"a": 1}, 8),
        ({"allOf": 3, "properties": []}, {"a": 1}, 2),
    ],
)
def test_rules_are_counted_as_they_are_held_against_values(schema: Any, value: Any, most: int) -> None:
    assert budgeting.visits(schema, value) == most


def test_counting_itself_is_bounded() -> None:
    wide = {"allOf": [{"minProperties": index} for index in range(400)]}
    with pytest.raises(budgeting.TooMuch):
        budgeting.visits({"additionalProperties": wide}, {str(index): [index] for index in range(300)})
    chain: Any = {
        "$defs": {f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(5000)},
        "$ref": "#/$defs/d0",
    }
    with pytest.raises(budgeting.TooMuch):
        budgeting.visits(chain, 1)
