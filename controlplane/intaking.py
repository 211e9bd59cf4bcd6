"""Documents as they come in: validated, stripped of what is the server's, turned into a `Write`.

Pure.  Always holds: a Write names one object and carries either a normalised document or an edit; status and
server-owned metadata have been left behind.  Called by `controlplane.writing`; `controlplane.planning` goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from controlplane import errors
from controlplane.admission import validating
from schemas.meta import Json
from schemas.problems import Violation

SERVER_OWNED: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)
"""Metadata that a round trip brings back and that nobody but the server sets."""


class Action(StrEnum):
    """What a caller asks for."""

    APPLY = "apply"
    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Write:
    """One asked-for change of one object."""

    action: Action
    kind: str
    name: str
    document: Json = field(default_factory=dict)
    """The manifest (apply, create, replace), without server-owned fields."""
    edit: Callable[[Json], Any] | None = None
    """For patches: from the present object to the wanted one."""
    problems: tuple[Violation, ...] = ()
    """What keeps an applied part from being a whole; an object that is there already makes up for it."""
    manager: str = ""
    force: bool = False
    uid: str = ""
    """If given, the object has to have it."""
    revision: int | None = None
    """If given, the object has to stand at it."""


def intake(
    action: Action, document: Any, *, manager: str = "", force: bool = False, where: tuple[str, str] | None = None
) -> Write:
    """A Write from a manifest as it came in; raises `errors.Invalid` with everything that is wrong with it.

    ``where`` is the (kind, name) of the address, with which the document has to agree; an empty name agrees.
    """
    cleaned = cleaned_document(document)
    normal, problems = validating.validate(cleaned)
    if normal is None and action is Action.APPLY:
        normal, _ = validating.validate(cleaned, partial=True)
    if normal is None or (problems and action is not Action.APPLY):
        raise errors.Invalid(problems)
    kind, name = normal["kind"], normal["metadata"]["name"]
    if where is not None and (kind != where[0] or name != (where[1] or name)):
        message = f"the address says {where[0]} {where[1]}, the document {kind} {name}; make them agree"
        raise errors.Invalid([Violation(pointer="/metadata/name", message=message)])
    metadata = document["metadata"] if isinstance(document.get("metadata"), dict) else {}
    return Write(
        action=action,
        kind=kind,
        name=name,
        document=normal,
        problems=tuple(problems),
        manager=manager,
        force=force,
        uid=str(metadata.get("uid") or ""),
        revision=revision_of(metadata.get("resourceVersion")),
    )


def revision_of(text: Any) -> int | None:
    """The revision that a ``resourceVersion`` names; None when there is none."""
    if text in (None, "", "0"):
        return None
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 18:
        message = f"{str(text)[:40]!r} is no resourceVersion of this server; leave it out or read the object again"
        raise errors.Invalid([Violation(pointer="/metadata/resourceVersion", message=message)])
    return int(text)


def cleaned_document(document: Any) -> Any:
    """A document without status and server-owned metadata; what is no object stays as it is, to be refused."""
    if not isinstance(document, dict):
        return document
    cleaned = {key: value for key, value in document.items() if key != "status"}
    if isinstance(document.get("metadata"), dict):
        cleaned["metadata"] = {key: value for key, value in document["metadata"].items() if key not in SERVER_OWNED}
    return cleaned
