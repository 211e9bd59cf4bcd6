"""The rules that every kind shares, and the draft that rules look at.

A rule is a generator of violations over a `Draft`; it reads only what has the right type, so that one document
gets all its answers at once, whatever else is wrong with it.  Called by `validating`; `modulerules` and
`otherrules` hold what only one kind has.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, TypeVar

from controlplane.admission import naming, pointers
from schemas import names
from schemas.meta import Json
from schemas.problems import Violation

T = TypeVar("T")


class Draft:
    """A normalised document on its way in; ``partial``: a piece for server-side apply, what is missing is not missed.

    A rule looks first whether ``metadata`` or ``spec`` (empty if they are no objects) has what it is about at all.
    """

    __slots__ = ("document", "metadata", "partial", "spec")

    def __init__(self, document: Json, partial: bool = False) -> None:
        metadata, spec = document.get("metadata"), document.get("spec")
        self.document = document
        self.partial = partial
        self.metadata: Json = metadata if isinstance(metadata, dict) else {}
        self.spec: Json = spec if isinstance(spec, dict) else {}

    def at(self, pointer: str, kind: type[T]) -> T | None:
        """What ``pointer`` names, if it is there and of that type (true is no number)."""
        found = pointers.get(self.document, pointer)
        return found if isinstance(found, kind) and not (isinstance(found, bool) and kind is not bool) else None

    def texts(self, pointer: str) -> Iterator[tuple[str, str]]:
        """(pointer, item) of each text in a list."""
        for index, item in enumerate(self.at(pointer, list) or ()):
            if isinstance(item, str):
                yield f"{pointer}/{index}", item

    def objects(self, pointer: str) -> Iterator[tuple[str, Json]]:
        """(pointer, item) of each object in a list."""
        for index, item in enumerate(self.at(pointer, list) or ()):
            if isinstance(item, dict):
                yield f"{pointer}/{index}", item

    @property
    def name(self) -> str:
        """The object's name, or empty."""
        found = self.metadata.get("name")
        return found if isinstance(found, str) else ""


Rule: TypeAlias = Callable[[Draft], Iterator[Violation]]


def violation(pointer: str, message: str, reason: str = "FieldValueInvalid") -> Violation:
    """A violation whose sentence begins with the field."""
    return Violation(pointer=pointer, message=f"{pointers.dotted(pointer)} {message}.", reason=reason)


def named(draft: Draft) -> Iterator[Violation]:
    """An object has a name, a DNS label."""
    found = draft.metadata.get("name", "")
    if found == "":
        yield violation("/metadata/name", "is required, but missing", "FieldValueRequired")
    elif isinstance(found, str) and (fault := naming.name_fault(found)) is not None:
        yield violation("/metadata/name", fault)


def labelled(draft: Draft) -> Iterator[Violation]:
    """Labels and annotations are in Kubernetes syntax, so that selectors can name them."""
    for part in ("labels", "annotations"):
        if part in draft.metadata:
            yield from label_map(draft.metadata[part], f"/metadata/{part}", values=part == "labels")


def label_map(labels: Any, pointer: str, *, values: bool) -> Iterator[Violation]:
    """Keys, and if ``values`` values too, of a map of labels, which stands at ``pointer``."""
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if (fault := naming.label_key_fault(key)) is not None:
            yield violation(f"{pointer}/{pointers.escape(key)}", f"is no valid key: {fault}")
        if values and isinstance(value, str) and (fault := naming.label_value_fault(value)) is not None:
            yield violation(f"{pointer}/{pointers.escape(key)}", fault)


def finalizers(draft: Draft) -> Iterator[Violation]:
    """A finalizer is ``domain/name``, so that whoever waits for it knows whose it is."""
    if "finalizers" not in draft.metadata:
        return
    for pointer, finalizer in draft.texts("/metadata/finalizers"):
        if "/" not in finalizer or naming.label_key_fault(finalizer) is not None:
            yield violation(pointer, f"must be a domain, '/' and a name, such as {names.FINALIZER}")


def reference(draft: Draft, pointer: str) -> Iterator[Violation]:
    """The name of another object."""
    found = draft.at(pointer, str)
    if found is not None and (fault := naming.name_fault(found)) is not None:
        yield violation(pointer, fault)


def words(draft: Draft, pointer: str, *, what: str) -> Iterator[Violation]:
    """A list of permissions, roles, flags or subjects: each a word, none twice."""
    seen: set[str] = set()
    for place, word in draft.texts(pointer):
        if (fault := naming.word_fault(word)) is not None:
            yield violation(place, fault)
        if word in seen:
            yield violation(place, f"names the {what} '{word}' a second time; remove one", "FieldValueDuplicate")
        seen.add(word)


COMMON: Final[tuple[Rule, ...]] = (named, labelled, finalizers)


def check(draft: Draft, rules: tuple[Rule, ...]) -> list[Violation]:
    """What every rule has to say."""
    return [found for rule in rules for found in rule(draft)]


def json_at(draft: Draft, pointer: str) -> Any:
    """What a pointer names, of any type; None where nothing is."""
    found = pointers.get(draft.document, pointer)
    return None if found is pointers.MISSING else found
