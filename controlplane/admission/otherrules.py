"""What Organisations, ModuleAccesses, FeatureFlags and Revocations have to satisfy beyond their types.

Called by `validating`.  Always holds: a flag that passes can be evaluated, and soon; an access that passes names a
tenant and a module by names that can exist; a revocation that passes shuts out exactly one thing.
"""

from collections.abc import Iterator
from typing import Final

from controlplane.admission import pointers, referring, ruling, wording
from controlplane.admission.ruling import Draft, Rule, violation
from schemas import targeting
from schemas.problems import Violation

MAX_VARIANTS: Final = 100
MAX_OVERRIDES: Final = 1_000
"""Of users, and as many of organisations."""
_REVOKED: Final = ("tokenId", "subject", "organisation")


def access(draft: Draft) -> Iterator[Violation]:
    """Both ends are names; nobody is allowed and denied at once; the configuration holds no secret."""
    yield from referring.secrets(draft, "/spec/configuration")
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
    if draft.at("/spec/rollout", dict) is not None:
        yield from _variant(draft, "/spec/rollout/variant", known, default="on")
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


def sizes(draft: Draft) -> Iterator[Violation]:
    """A flag stays small enough to be looked through quickly."""
    for pointer, most in (("/spec/variants", MAX_VARIANTS), *_OVERRIDES):
        found = draft.at(pointer, dict) or draft.at(pointer, list) or ()
        if len(found) > most:
            yield violation(pointer, f"must have at most {most:,} entries, but has {len(found):,}")


_OVERRIDES: Final = (("/spec/overrides/users", MAX_OVERRIDES), ("/spec/overrides/organisations", MAX_OVERRIDES))


def targeted(draft: Draft) -> Iterator[Violation]:
    """The targeting is JsonLogic that ends soon, with operators that exist."""
    for fault in targeting.faults(draft.at("/spec/targeting", dict) or {}):
        pointer = pointers.join(("spec", "targeting", *fault.path))
        hint = wording.suggestion(fault.word, sorted(targeting.OPERATORS)) if fault.word else ""
        yield Violation(
            pointer=pointer,
            message=f"{pointers.dotted(pointer)} {fault.message}.{hint}",
            reason="FieldValueNotSupported" if fault.word else "FieldValueInvalid",
        )


def required(draft: Draft) -> Iterator[Violation]:
    """Prerequisites are names of other flags, none twice."""
    yield from ruling.words(draft, "/spec/prerequisites", what="flag")
    for pointer, word in draft.texts("/spec/prerequisites"):
        if word == draft.name:
            yield violation(pointer, "names the flag itself, which so could never be on; remove it")


def tenants_named(draft: Draft) -> Iterator[Violation]:
    """An override for an organisation names one that can exist."""
    for pointer, _ in draft.objects("/spec/overrides/organisations"):
        yield from ruling.reference(draft, f"{pointer}/key")


def revoked(draft: Draft) -> Iterator[Violation]:
    """One token, one subject or one organisation; a token is of one moment, so nothing before or after it."""
    given = [field for field in _REVOKED if draft.at(f"/spec/{field}", str) is not None]
    if len(given) != 1 and not (draft.partial and not given):
        what = "none is given" if not given else f"{' and '.join(given)} are given"
        yield violation(
            "/spec", f"must have one of tokenId, subject and organisation, but {what}", "FieldValueRequired"
        )
    if given == ["tokenId"] and draft.at("/spec/issuedBefore", str) is not None:
        yield violation("/spec/issuedBefore", "is for a subject or an organisation; a tokenId names one token")
    yield from ruling.reference(draft, "/spec/organisation")


FLAG: Final[tuple[Rule, ...]] = (variants, sizes, targeted, required, tenants_named)
RULES: Final[dict[str, tuple[Rule, ...]]] = {
    "ModuleAccess": (access,),
    "FeatureFlag": FLAG,
    "Organisation": (),
    "Revocation": (revoked,),
}
