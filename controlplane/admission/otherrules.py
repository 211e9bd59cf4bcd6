"""What Organisations, ModuleAccesses and FeatureFlags have to satisfy beyond their types.

Called by `validating`.  Always holds: a flag that passes can be evaluated; an access that passes names a tenant
and a module by names that can exist.
"""

from collections.abc import Iterator
from typing import Final

from controlplane.admission import ruling, wording
from controlplane.admission.ruling import Draft, Rule, violation
from schemas.problems import Violation


def access(draft: Draft) -> Iterator[Violation]:
    """Both ends are names; nobody is allowed and denied at once."""
    for part in ("organisation", "module"):
        yield from ruling.reference(draft, f"/spec/{part}")
    denied = {user for _, user in draft.texts("/spec/usersDenied")}
    for pointer, user in draft.texts("/spec/usersAllowed"):
        if user in denied:
            yield violation(pointer, f"names '{user}', who is also in spec.usersDenied; remove one of the two")


def variants(draft: Draft) -> Iterator[Violation]:
    """Variants are of one type, and every place that names a variant names one of them."""
    given = draft.at("/spec/variants", dict)
    known = list(given) if given is not None else ["on", "off"]
    if not known:
        yield violation("/spec/variants", "must name at least one variant")
        return
    kinds = {wording.kind_of(value) for value in (given or {}).values()}
    if len(kinds) > 1:
        yield violation("/spec/variants", f"must all have values of one type, but hold {wording.listed(sorted(kinds))}")
    if draft.partial and given is None:
        return
    yield from _variant(draft, "/spec/defaultVariant", known, default="off")
    for who in ("users", "organisations"):
        seen: set[str] = set()
        for pointer, item in draft.objects(f"/spec/overrides/{who}"):
            yield from _variant(draft, f"{pointer}/variant", known)
            key = item.get("key")
            if isinstance(key, str) and key in seen:
                yield violation(f"{pointer}/key", f"names '{key}' a second time; keep one", "FieldValueDuplicate")
            seen.add(str(key))


def _variant(draft: Draft, pointer: str, known: list[str], default: str | None = None) -> Iterator[Violation]:
    found = draft.at(pointer, str)
    if found is None and default is not None and default not in known and not draft.partial:
        yield violation(pointer, f"is required, because no variant is called '{default}'", "FieldValueRequired")
    elif found and found not in known:
        hint = wording.suggestion(found, known)
        message = f"must be one of spec.variants ({wording.listed(known[:20])}), but is {wording.shown(found)}"
        yield violation(pointer, f"{message}.{hint.rstrip('?')}" if hint else message, "FieldValueNotSupported")


RULES: Final[dict[str, tuple[Rule, ...]]] = {"ModuleAccess": (access,), "FeatureFlag": (variants,), "Organisation": ()}
