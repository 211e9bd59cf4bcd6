"""What every model of the wire has in common."""

from typing import Any

from pydantic import Field

from schemas.meta import Model


class First(Model):
    plain_one: str = ""
    """What stands below it."""
    said: str = Field("", description="What the field says itself.")
    """Not this."""
    again: str = ""
    """Of the first."""


class Second(First):
    again: str = "x"
    one_more: First | None = None
    """Beside a reference."""


def properties(model: type[Model], **options: Any) -> Any:
    return model.model_json_schema(**options)["properties"]


def test_docstrings_of_fields_are_their_descriptions_under_each_name() -> None:
    found = {name: each.get("description") for name, each in properties(Second).items()}
    assert found == {
        "plainOne": "What stands below it.",
        "said": "What the field says itself.",
        "again": None,
        "oneMore": "Beside a reference.",
    }
    assert properties(Second, by_alias=False)["plain_one"]["description"] == "What stands below it."
    assert properties(First)["again"]["description"] == "Of the first."
