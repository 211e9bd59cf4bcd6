"""How big and how deep any document may be, whatever door it comes through.

Always holds: a value that passes can be walked, hashed and stored by simple code; looking costs one encoding.
Called by `validating` for request bodies and rows, by `composing` for its limits; `checking` follows.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from controlplane.admission import pointers
from schemas.kits import jsontexts
from schemas.meta import Json
from schemas.problems import Violation

MAX_BYTES: Final = 64 * 1024
"""Of one document, as text."""
MAX_DEPTH: Final = 32
"""Of objects and lists inside each other."""
MAX_NODES: Final = 20_000
"""Keys and values of one document together."""

FREE_FORM: Final = ("/spec/config", "/spec/configSchema", "/spec/configuration", "/spec/targeting", "/spec/variants")
"""Where a document holds other people's data: control characters are theirs to use."""

_ESCAPED_CONTROL: Final = re.compile(r"\\u00[0189][0-9a-f]|\\[bf]|\x7f")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def encode(document: Json) -> tuple[str, list[Violation]]:
    """The document as JSON text, and what forbids to go on with it (too big, too deep, not JSON)."""
    data = jsontexts.quick(document)
    try:
        if data is not None and data.isascii():
            text = data.decode()
        else:
            text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        return "", [_too_deep()]
    except (TypeError, ValueError) as error:
        return "", [Violation(pointer="", message=f"The document is not JSON: {error}.", reason="FieldValueInvalid")]
    problems: list[Violation] = []
    size = len(text)
    if size > MAX_BYTES and "\\u" in text:
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size > MAX_BYTES:
        problems.append(_too_big(size))
    elif text.count("{") + text.count("[") > MAX_DEPTH and depth(document) > MAX_DEPTH:
        problems.append(_too_deep())
    elif size > MAX_NODES and nodes(document) > MAX_NODES:
        problems.append(_too_many())
    if not problems and ("\\" in text or "\x7f" in text) and ("\\u" in text or _ESCAPED_CONTROL.search(text)):
        problems.extend(_odd_characters("", document))
    return text, problems


def _too_big(size: int) -> Violation:
    return Violation(
        pointer="",
        message=f"The document has {size:,} bytes, but {MAX_BYTES:,} are allowed; split it, or move data out of it.",
        reason="DocumentTooLarge",
    )


def _too_deep() -> Violation:
    return Violation(
        pointer="",
        message=f"Objects and lists are nested deeper than {MAX_DEPTH} levels; flatten the document.",
        reason="DocumentTooDeep",
    )


def _too_many() -> Violation:
    return Violation(
        pointer="",
        message=f"The document has more than {MAX_NODES:,} keys and values; split it, or move data out of it.",
        reason="DocumentTooLarge",
    )


def depth(document: Any, most: int = MAX_DEPTH) -> int:
    """How deep objects and lists are nested; counting stops beyond ``most``."""
    level, reached = [document], 0
    while level and reached <= most:
        level = [child for value in level for child in _children(value) if isinstance(child, dict | list)]
        reached += 1
    return reached


def nodes(document: Any, most: int = MAX_NODES) -> int:
    """How many keys and values there are; counting stops beyond ``most``."""
    stack, count = [document], 0
    while stack and count <= most:
        value = stack.pop()
        count += 1 + (len(value) if isinstance(value, dict) else 0)
        stack.extend(_children(value))
    return count


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _odd_characters(pointer: str, value: Any) -> Iterator[Violation]:
    """Text that no store or terminal should get: NUL and lone surrogates anywhere, controls outside free form."""
    if isinstance(value, str):
        yield from _odd_text(pointer, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            odd = list(_odd_text(pointer, key))
            yield from odd or _odd_characters(f"{pointer}/{pointers.escape(key)}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _odd_characters(f"{pointer}/{index}", item)


def _odd_text(pointer: str, text: str) -> Iterator[Violation]:
    surrogate = next((char for char in text if "\ud800" <= char <= "\udfff"), None)
    control = _CONTROL.search(text)
    found = surrogate or (control.group() if control else None)
    if found is None or (found not in (surrogate, "\0") and pointer.startswith(FREE_FORM)):
        return
    what = "half of a surrogate pair" if surrogate else "the control character"
    yield Violation(
        pointer=pointer,
        message=f"The text contains {what} U+{ord(found):04X}, which cannot be stored or shown; remove it.",
        reason="FieldValueInvalid",
    )
