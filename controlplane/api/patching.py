"""JSON Patch (RFC 6902): a list of operations on an object, all or none.

Pure; the object given is not changed.  Called by `controlplane.api.changing` inside the write's transaction.
"""

import copy
from typing import Any

from controlplane import errors
from controlplane.admission import pointers
from controlplane.api import answering
from schemas.meta import Json
from schemas.problems import Violation

MAX_OPERATIONS = 1_000

_NEEDS = {"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": "path"}


def operations(value: Any) -> list[Json]:
    """A patch body as a list of well-formed operations (400)."""
    if not isinstance(value, list) or len(value) > MAX_OPERATIONS:
        raise answering.Refusal(400, f"a JSON patch is a list of at most {MAX_OPERATIONS} operations")
    for index, operation in enumerate(value):
        need = _NEEDS.get(str(operation.get("op"))) if isinstance(operation, dict) else None
        if need is None or need not in operation or not all(_pointer(operation, key) for key in ("path", "from")):
            raise answering.Refusal(
                400, f"operation {index} of the JSON patch needs op, path and, by op, value or from (RFC 6902)"
            )
    return value


def apply(document: Json, patch: list[Json]) -> Json:
    """``document`` after every operation; raises `errors.Invalid` that names the one that cannot be done."""
    result: Any = copy.deepcopy(document)
    for index, operation in enumerate(patch):
        try:
            result = _one(result, operation)
        except (LookupError, ValueError, TypeError) as error:
            message = f"operation {index} of the patch ({operation['op']}) cannot be done: {error}"
            raise errors.Invalid([Violation(pointer=operation["path"], message=message)]) from error
    if not isinstance(result, dict):
        raise errors.Invalid([Violation(pointer="", message="the patch leaves no object")])
    return result


def _pointer(operation: Json, key: str) -> bool:
    text = operation.get(key, "" if key == "from" else None)
    return isinstance(text, str) and (text == "" or text.startswith("/"))


def _one(document: Any, operation: Json) -> Any:
    path = operation["path"]
    match operation["op"]:
        case "test":
            if _get(document, path) != operation["value"]:
                raise ValueError("the value there is another one")
            return document
        case "remove":
            return _remove(document, path)
        case "replace":
            _get(document, path)
            return _add(_remove(document, path), path, operation["value"])
        case "copy":
            return _add(document, path, copy.deepcopy(_get(document, operation["from"])))
        case "move":
            value = _get(document, operation["from"])
            return _add(_remove(document, operation["from"]), path, value)
        case _:
            return _add(document, path, copy.deepcopy(operation["value"]))


def _get(document: Any, pointer: str) -> Any:
    found = pointers.get(document, pointer)
    if found is pointers.MISSING:
        raise LookupError(f"there is nothing at {pointer or 'the root'}")
    return found


def _remove(document: Any, pointer: str) -> Any:
    _get(document, pointer)
    if pointer == "":
        return None
    holder, last = _get(document, pointers.parent(pointer)), pointers.split(pointer)[-1]
    if isinstance(holder, list):
        del holder[int(last)]
    else:
        del holder[last]
    return document


def _add(document: Any, pointer: str, value: Any) -> Any:
    if pointer == "":
        return value
    holder, last = _get(document, pointers.parent(pointer)), pointers.split(pointer)[-1]
    if isinstance(holder, list):
        index = len(holder) if last == "-" else int(last)
        if not 0 <= index <= len(holder):
            raise LookupError(f"the list has {len(holder)} items")
        holder.insert(index, value)
    elif isinstance(holder, dict):
        holder[last] = value
    else:
        raise LookupError(f"{pointers.parent(pointer)} is neither object nor list")
    return document
