"""What only a Module has to satisfy beyond its types: names that fit together, versions, ranges, configuration.

Always holds: a rule never looks outside the document; what needs other modules is the reconciler's business.
Called by `validating`.
"""

import functools
import keyword
import re
import sys
from collections.abc import Iterator
from typing import Final

from controlplane.admission import naming, pointers, referring, ruling, wording
from controlplane.admission.ruling import Draft, violation
from schemas import names
from schemas.problems import Violation

SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
"""Source: semver.org 2.0.0, the suggested regular expression."""

_LOOSE: Final = re.compile(r"[vV=]?\s*(\d+)(?:\.(\d+))?(?:\.(\d+))?", re.ASCII)
_PATH_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
RANGE_MAX: Final = 256


def namespace(draft: Draft) -> Iterator[Violation]:
    """The route namespace is not one of ours."""
    given = draft.at("/spec/routing/namespace", str) if "routing" in draft.spec else None
    found = given or draft.name
    if found in names.RESERVED_NAMESPACES:
        pointer = "/spec/routing/namespace" if given else "/metadata/name"
        free = "choose another" if given else "set spec.routing.namespace to another"
        yield Violation(
            pointer=pointer,
            message=f"The route namespace '{found}' is reserved for the host's own addresses; {free}.",
            reason="FieldValueReserved",
        )
    elif given is not None and (fault := naming.name_fault(given)) is not None:
        yield violation("/spec/routing/namespace", fault)


def source(draft: Draft) -> Iterator[Violation]:
    """The code lies below the modules path, under the name by which it is imported."""
    path = draft.at("/spec/source/path", str) if "source" in draft.spec else None
    if path is not None:
        fault = _path_fault(path)
        if fault is not None:
            yield violation("/spec/source/path", fault)
            return
    entry = draft.spec.get("entryPoint")
    if not isinstance(entry, str) or ":" not in entry:
        return
    yield from _entry_point(entry, path)


def _entry_point(entry: str, path: str | None) -> Iterator[Violation]:
    module, _, attribute = entry.partition(":")
    top = module.partition(".")[0]
    reserved = next((part for part in (*module.split("."), *attribute.split(".")) if keyword.iskeyword(part)), None)
    if reserved is not None:
        yield violation("/spec/entryPoint", f"must not contain the Python keyword '{reserved}'")
    elif top in sys.stdlib_module_names:
        yield violation(
            "/spec/entryPoint",
            f"names '{top}', which is a module of Python itself; an entry point is inside the module's own source, "
            "so rename the package",
        )
    elif path is not None and path.rpartition("/")[2] != top:
        last = path.rpartition("/")[2]
        hint = f"; write '{path[:-3]}' without .py" if last == f"{top}.py" else ""
        yield violation(
            "/spec/source/path",
            f"must end in '{top}', the top package of spec.entryPoint, but ends in '{last}'{hint}",
        )


def _path_fault(path: str) -> str | None:
    if not path:
        return "must not be empty; leave it out to use the entry point's top package"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return f"must be relative to the modules path, but '{path}' is absolute"
    if "\\" in path:
        return f"must use '/', not '\\', but is '{path}'"
    for part in path.split("/"):
        if part in {"..", "."}:
            return f"must stay below the modules path; '{part}' is not allowed in '{path}'"
        if not _PATH_PART.fullmatch(part):
            return f"must be folders and a package of letters, digits, '_', '-', '.', divided by '/', but is '{path}'"
    return None


def version(draft: Draft) -> Iterator[Violation]:
    """The module's version is a semantic version."""
    found = draft.spec.get("version")
    if not isinstance(found, str) or SEMVER.fullmatch(found):
        return
    loose = _LOOSE.match(found)
    proposal = ".".join(str(int(part or 0)) for part in loose.groups()) if loose else ""
    hint = f"; try '{proposal}'" if proposal else ""
    yield violation("/spec/version", f"must be a semantic version such as 1.4.0 or 2.0.0-rc.1, but is '{found}'{hint}")


def dependencies(draft: Draft) -> Iterator[Violation]:
    """Dependencies are other modules, each once, with a readable range."""
    if "dependencies" not in draft.spec:
        return
    seen: set[str] = set()
    for pointer, item in draft.objects("/spec/dependencies"):
        name, wanted = item.get("name"), item.get("version")
        if isinstance(name, str) and name:
            yield from ruling.reference(draft, f"{pointer}/name")
            if name == draft.name:
                yield violation(f"{pointer}/name", "must be another module; a module cannot wait for itself")
            if name in seen:
                message = f"names '{name}' a second time; join the ranges"
                yield violation(f"{pointer}/name", message, "FieldValueDuplicate")
            seen.add(name)
        if isinstance(wanted, str) and not is_range(wanted):
            yield violation(
                f"{pointer}/version", f"must be a range such as '^1.4' or '>=1.2 <2', but is {wording.shown(wanted)}"
            )


@functools.lru_cache(1024)
def is_range(text: str) -> bool:
    """Whether ``text`` is a version range in npm's grammar."""
    if len(text) > RANGE_MAX or not text.isascii():
        return False
    from nodesemver import make_range  # late: few modules have dependencies, and every command checks manifests

    try:
        make_range(text, loose=False)
    except (ValueError, TypeError, IndexError, AttributeError, RecursionError):
        return False
    return True


def auth(draft: Draft) -> Iterator[Violation]:
    """The floor names words, and permissions only from the catalogue, if there is one."""
    if "auth" not in draft.spec and "permissions" not in draft.spec:
        return
    yield from ruling.words(draft, "/spec/permissions", what="permission")
    for part, what in (("permissions", "permission"), ("roles", "role"), ("featureFlags", "flag")):
        yield from ruling.words(draft, f"/spec/auth/{part}", what=what)
    catalogue = [word for _, word in draft.texts("/spec/permissions")]
    for pointer, word in draft.texts("/spec/auth/permissions"):
        if catalogue and word not in catalogue:
            yield violation(
                pointer,
                f"asks for '{word}', which is not in the catalogue spec.permissions ({wording.listed(catalogue[:20])})"
                f"; add it there{wording.suggestion(word, catalogue).replace(' Did', ', or did').rstrip('?')}",
                "FieldValueNotSupported",
            )
    named = [part for part in ("permissions", "roles") if draft.at(f"/spec/auth/{part}", list)]
    if draft.at("/spec/auth/level", str) == "NONE" and named:
        level = "PERMISSION" if "permissions" in named else "ROLE"
        yield violation("/spec/auth/level", f"is NONE, yet spec.auth.{named[0]} lists some; write {level}")


def placement(draft: Draft) -> Iterator[Violation]:
    """The selector is made of labels."""
    if "placement" in draft.spec:
        yield from ruling.label_map(
            draft.at("/spec/placement/workerSelector", dict), "/spec/placement/workerSelector", values=True
        )


def configuration(draft: Draft) -> Iterator[Violation]:
    """``config`` holds no secret; ``configSchema`` is a JSON Schema, and ``config`` satisfies it."""
    secrets = list(referring.secrets(draft, "/spec/config")) if "config" in draft.spec else []
    if secrets:  # the schema's words would repeat what they are about
        yield from secrets
        return
    schema = draft.spec.get("configSchema")
    if not schema or not isinstance(schema, dict):
        return
    from controlplane.admission import configuring  # late: most modules bring no schema

    config = ruling.json_at(draft, "/spec/config")
    if config is None:
        config = {}
    if isinstance(config, dict):
        skip_config = draft.partial and ruling.json_at(draft, "/spec/config") is None
        for where, path, message in configuring.violations(schema, None if skip_config else config):
            pointer = f"/spec/{where}{pointers.join(path)}"
            yield Violation(pointer=pointer, message=f"{pointers.dotted(pointer)}: {message}")


RULES: Final[tuple[ruling.Rule, ...]] = (namespace, source, version, dependencies, auth, placement, configuration)
