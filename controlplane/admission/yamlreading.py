"""One YAML document: libyaml's events (PyYAML's C parser) under our own composer.

YAML here is a notation for JSON: no anchors, aliases, tags, merge keys or directives, and a plain scalar is a
number, true, false or null only if JSON would call it so (YAML 1.2's JSON schema, plus the spellings ``~``,
``Null``, ``True`` …); ``NO``, ``010``, ``0x1F``, ``1_000`` and dates are text.  Always holds: libyaml's own
composer, which recurses, is never used.  Called by `composing`; places go to `growing.Growth`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from yaml import events
from yaml._yaml import CParser
from yaml.error import MarkedYAMLError, YAMLError

from controlplane.admission import bounds
from controlplane.admission.growing import DOUBT, Growth, Limits, Stop
from schemas.kits.strictjson import NUMBER_MAX

_WORDS: Final[dict[str, Any]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NOT_TEXT: Final = frozenset(["", *"~nNtTfF-0123456789"])
"""How a plain scalar begins that may be something other than text."""
_SENTENCES: Final = (
    (
        "character that cannot start any token",
        "This character cannot begin a value; put the text in quotes, and indent with spaces, not tabs.",
    ),
    ("mapping values are not allowed", "A ':' is not allowed here; check the indentation, or put the text in quotes."),
    ("could not find expected ':'", "A ':' is missing after the key, or the indentation is wrong."),
    ("did not find expected key", "A key was expected here; check the indentation and the brackets above."),
    ("did not find expected '-' indicator", "This is not part of the list above; check the indentation."),
    ("did not find expected ',' or ']'", "A ',' or ']' is missing."),
    ("did not find expected ',' or '}'", "A ',' or '}' is missing."),
    ("did not find expected node content", "A value was expected here; check the brackets."),
    ("found unexpected end of stream", "The text ends inside quotes; the closing quote is missing."),
    ("found unknown escape character", "This escape does not exist; write a backslash as two, or use single quotes."),
    ("expected <document start>", "This cannot begin a document; divide documents by a line with '---'."),
)
"""Words of libyaml's and ours."""
_MARKS: Final = ("&", "*", "!", "<<")
"""A text without any of these has no anchor, alias, tag or merge key."""
_SCALAR, _ALIAS, _DOCUMENT = events.ScalarEvent, events.AliasEvent, events.DocumentStartEvent
_MAPPING, _MAPPING_END = events.MappingStartEvent, events.MappingEndEvent
_SEQUENCE, _SEQUENCE_END = events.SequenceStartEvent, events.SequenceEndEvent


def read_fast(text: str, limits: Limits) -> Any:
    """The value of a document that has nothing wrong with it; `growing.DOUBT`: ask `read`."""
    parser = CParser(text)
    try:
        found = _follow_fast(parser.get_event, limits.depth, suspicious=any(mark in text for mark in _MARKS))
    except (YAMLError, ValueError):
        return DOUBT
    finally:
        parser.dispose()
    # a '?' inside brackets makes three nodes of two characters
    if 2 * len(text) > limits.nodes and bounds.nodes(found, limits.nodes) > limits.nodes:
        return DOUBT
    return found


def read(text: str, growth: Growth) -> None:
    """Read one document's text into ``growth``; problems are noted there, nothing is raised."""
    parser = CParser(text)
    try:
        _follow(parser, growth)
    except Stop:
        return
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(growth, mark) if mark is not None else growth.base
        growth.problem(_sentence(error, growth), *place)
    except YAMLError as error:
        growth.problem(f"This is not YAML: {str(error).strip().partition(chr(10))[0]}.", *growth.base)
    finally:
        parser.dispose()


def scalar(text: str) -> Any:
    """What a plain scalar means.  ValueError if it is a number that nothing can hold."""
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    if len(text) > NUMBER_MAX:
        raise ValueError(f"The number {text[:20]}… has {len(text)} characters; put it in quotes if it is text.")
    if number.group(1) is None and number.group(2) is None:
        return int(text)
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"The number {text} is too big to hold; put it in quotes if it is text.")
    return value


def _follow_fast(next_event: Callable[[], Any], depth: int, *, suspicious: bool) -> Any:  # noqa: C901, PLR0912 (one loop, no calls: it runs for every event of every good document)
    """The value of the only document; `growing.DOUBT` at the first thing that may be wrong."""
    holders: list[tuple[Any, bool, str | None]] = []
    holder: Any = None
    mapping = started = False
    key: str | None = None
    value: Any = None
    root: Any = None
    while (event := next_event()) is not None:
        kind = type(event)
        if kind is _SCALAR:
            value = event.value
            if suspicious and (event.anchor is not None or event.tag is not None or value == "<<"):
                return DOUBT
            if mapping and key is None:
                if value in holder:
                    return DOUBT
                key = value
                continue
            if value[:1] in _NOT_TEXT and event.implicit[0]:
                value = scalar(value)
        elif kind is _MAPPING or kind is _SEQUENCE:
            if len(holders) >= depth or (mapping and key is None):
                return DOUBT
            if suspicious and (event.anchor is not None or event.tag is not None):
                return DOUBT
            value = {} if kind is _MAPPING else []
        elif kind is _MAPPING_END or kind is _SEQUENCE_END:
            holder, mapping, key = holders.pop()
            continue
        elif kind is _DOCUMENT and not started:
            started = True
            continue
        elif kind is _DOCUMENT or kind is _ALIAS:
            return DOUBT
        else:
            continue
        if mapping:
            holder[key] = value
            key = None
        elif holder is None:
            root = value
        else:
            holder.append(value)
        if kind is not _SCALAR:
            holders.append((holder, mapping, key))
            holder, mapping, key = value, kind is _MAPPING, None
    return root


def _follow(parser: CParser, growth: Growth) -> None:
    documents = 0
    while (event := parser.get_event()) is not None:
        kind = type(event)
        if kind is events.ScalarEvent:
            _scalar(event, growth)
        elif kind is events.MappingStartEvent or kind is events.SequenceStartEvent:
            line, column = _open(event, growth)
            growth.enter({} if kind is events.MappingStartEvent else [], line, column)
        elif kind is events.MappingEndEvent or kind is events.SequenceEndEvent:
            growth.leave()
        elif kind is events.AliasEvent:
            _alias(event, growth)
        elif kind is events.DocumentStartEvent:
            documents += 1
            if documents > 1:
                place = _place(growth, event.start_mark)
                growth.stop("A second document begins here; divide documents by a line with '---'.", *place)


def _place(growth: Growth, mark: Any) -> tuple[int, int]:
    line, column = growth.base
    return line + mark.line, mark.column + (column if mark.line == 0 else 1)


def _open(event: Any, growth: Growth) -> tuple[int, int]:
    """The place of a node, its anchor and tag refused; an object or list as a key ends the reading."""
    place = _place(growth, event.start_mark)
    if growth.wants_key:
        growth.stop("A key must be text, not an object or list.", *place)
    _refuse_extras(event, growth, place)
    return place


def _refuse_extras(event: Any, growth: Growth, place: tuple[int, int]) -> None:
    if event.anchor is not None:
        growth.problem(
            f"The anchor '&{event.anchor[:40]}' is not allowed; write the value out where it is needed.", *place
        )
    if event.tag is not None and event.tag != "!":
        growth.problem(f"The tag '{event.tag[:60]}' is not allowed; remove it.", *place)


def _scalar(event: Any, growth: Growth) -> None:
    line, column = place = _place(growth, event.start_mark)
    if event.anchor is not None or event.tag is not None:
        _refuse_extras(event, growth, place)
    if growth.wants_key:
        if event.value == "<<" and event.implicit[0]:
            growth.problem("Merge keys ('<<') are not allowed; write the fields out.", line, column)
        growth.key(event.value, line, column)
        return
    value = event.value
    if event.implicit[0]:
        try:
            value = scalar(value)
        except ValueError as error:
            growth.problem(str(error), line, column, "FieldValueInvalid")
    growth.leaf(value, line, column)


def _alias(event: Any, growth: Growth) -> None:
    place = _place(growth, event.start_mark)
    if growth.wants_key:
        growth.stop("An alias cannot be a key; write the key out.", *place)
    growth.problem(f"The alias '*{event.anchor[:40]}' is not allowed; write the value out here.", *place)
    growth.leaf(None, *place)


def _sentence(error: MarkedYAMLError, growth: Growth) -> str:
    problem, context = (error.problem or "").strip(), (error.context or "").strip()
    for part, words in _SENTENCES:
        if part in problem:
            opened = ""
            if error.context_mark is not None and "flow" in context:
                opened = " The bracket opened at line {}, column {}.".format(*_place(growth, error.context_mark))
            return words + opened
    return f"This is not YAML: {context + ': ' if context else ''}{problem}."
