"""Tell a module's author what went wrong, in which of their own files and lines.

Pure over an exception.  Places are relative to the packed source (``analytics_core/models.py:12``), names are the
author's own; what the host adds to a traceback is left out, and so are the values of secrets.
"""

import traceback
from collections.abc import Iterable
from types import CodeType

from dataplane.runtime import masking
from dataplane.runtime.importing import Code

_TEXT_MAX = 2_000
_TABLE_TWICE = "is already defined for this MetaData instance"


def explain(error: BaseException, code: Code) -> str:
    """``file:line: Type: text``, with what to do next where we know it."""
    place = place_of(error, code)
    text = _shorten(masking.mask.text(code.plain(_text(error)).replace(f"{code.folder}/", "")))
    hint = _hint(error, code)
    return f"{place}: {text}{hint}" if place else f"{text}{hint}"


def place_of(error: BaseException, code: Code) -> str:
    """The author's innermost file and line that took part in ``error``; empty if none did."""
    if isinstance(error, SyntaxError) and error.filename:
        inside = relative(error.filename, code)
        if inside:
            return f"{inside}:{error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        inside = relative(frame.filename, code)
        if inside:
            return f"{inside}:{frame.lineno}"
    cause = error.__cause__ or error.__context__
    return place_of(cause, code) if cause is not None else ""


def place_of_code(definition: CodeType, code: Code) -> str:
    """Where a function of the author's is defined; empty if it is not theirs."""
    inside = relative(definition.co_filename, code)
    return f"{inside}:{definition.co_firstlineno}" if inside else ""


def innermost(places: Iterable[tuple[str, int]], code: Code) -> str:
    """The last of (file, line) places, outermost first, that lies in the author's source."""
    found = ""
    for filename, line in places:
        inside = relative(filename, code)
        if inside:
            found = f"{inside}:{line}"
    return found


def relative(filename: str, code: Code) -> str:
    """``filename`` as the author knows it, below the packed source; empty if it lies elsewhere."""
    below = f"{code.folder}/"
    return filename.removeprefix(below) if filename.startswith(below) else ""


def _text(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{name}: {error.msg}"
    if isinstance(error, SystemExit):
        return f"{name}: the code called exit({error.code!r}); a module must not end its host"
    said = _said(error)
    return f"{name}: {said}" if said else name


def _said(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException:  # noqa: BLE001 – an author's __str__ may fail in any way, SystemExit included
        return "(its text cannot be shown)"


def _shorten(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]} … ({len(text)} characters)"


def _hint(error: BaseException, code: Code) -> str:
    if _TABLE_TWICE in _said(error):
        return "; define tables at the top level of a file: a new configuration makes another instance of the same code"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name
    if name.startswith(code.mangled):
        return f"; there is no such file in the source, looked below {code.top}"
    if name == code.top or name.startswith(f"{code.top}."):
        return (
            "; a module finds its own code by import statements, or by relative names: "
            "write importlib.import_module('.name', __package__)"
        )
    return f"; ship {name.split('.')[0]!r} inside {code.top}/ or install it where the workers run"
