"""The texts below attributes, read from the source."""

from schemas.kits import docstrings


class Described:
    """Of the class."""

    first: int = 1
    """What the first is,
    in two lines.
    """
    second: str
    third: float
    "In one line."

    class Inner:
        """Of the inner one."""

        deep: bool
        """Far below."""


def test_the_text_below_an_attribute_is_found() -> None:
    found = {"first": "What the first is,\nin two lines.", "third": "In one line."}
    assert docstrings.below_attributes(Described) == found
    assert docstrings.below_attributes(Described.Inner) == {"deep": "Far below."}


def test_what_has_no_file_has_no_texts() -> None:
    assert docstrings.below_attributes(int) == {}
    assert docstrings.below_attributes(type("Made", (), {"__module__": "nowhere"})) == {}
