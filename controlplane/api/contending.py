"""Refused claims and shadowed routes, as administrators are shown them.

What is told is what the store holds at that moment: claims, and what modules were refused, so it agrees with the
conditions RoutesAccepted, RoutesContested and RoutesOverlap of the modules.  Runs inside a read of the store.
Called by `controlplane.api.managing`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.admission import shadowing
from controlplane.store import neighbouring
from controlplane.store.readings import Reading
from controlplane.store.records import Claim, Contest
from schemas import names, paths
from schemas.meta import Json, now_text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for."""

    module: str
    """The name of a module on either side; empty: any."""
    namespace: str
    """Empty: any."""
    limit: int


def told(reading: Reading, wanted: Wanted) -> Json:
    """Both lists, each from the oldest on and cut at the limit."""
    refused = [_conflict(contest, owner) for contest, owner in _refused(reading, wanted)]
    shadows: list[Json] = []
    complete = True
    for api_version, namespace in neighbouring.shared(reading.ask):
        if wanted.namespace in ("", namespace) and len(shadows) <= wanted.limit:
            found, whole = shadowing.among(shadowing.routes_of(reading.claims(api_version, namespace)))
            complete = complete and whole
            shadows += [_shadow(api_version, namespace, each) for each in found if _concerns(wanted, each)]
    return {
        "conflicts": refused[: wanted.limit],
        "shadowed": shadows[: wanted.limit],
        "complete": complete and max(len(refused), len(shadows)) <= wanted.limit,
    }


def _concerns(wanted: Wanted, shadow: shadowing.Shadow) -> bool:
    return wanted.module in ("", shadow.route.module, shadow.by.module)


def _refused(reading: Reading, wanted: Wanted) -> Iterator[tuple[Contest, Claim]]:
    """What is refused, and the claim that stands against it; without what has become free just now."""
    contests = neighbouring.contests(reading.ask)
    held = _held(reading, contests)
    for contest in contests:
        place = (contest.api_version, contest.namespace, contest.shape)
        owner = next((claim for claim in held.get(place, ()) if _stands_against(claim, contest)), None)
        if (
            owner is not None
            and wanted.namespace in ("", contest.namespace)
            and wanted.module in ("", contest.module, owner.module)
        ):
            yield contest, owner


def _stands_against(claim: Claim, contest: Contest) -> bool:
    return claim.uid != contest.uid and paths.excludes(claim.method, contest.method)


def _held(reading: Reading, contests: Iterable[Contest]) -> dict[tuple[str, str, str], list[Claim]]:
    shapes: dict[tuple[str, str], set[str]] = {}
    for contest in contests:
        shapes.setdefault((contest.api_version, contest.namespace), set()).add(contest.shape)
    found: dict[tuple[str, str, str], list[Claim]] = {}
    for where, asked in shapes.items():
        for claim in neighbouring.claims_at(reading.ask, *where, asked):
            found.setdefault((*where, claim.shape), []).append(claim)
    return found


def _conflict(contest: Contest, owner: Claim) -> Json:
    return {
        "api_version": contest.api_version,
        "namespace": contest.namespace,
        "method": contest.method,
        "path": contest.path,
        "shape": contest.shape,
        "refused": names.module_id(contest.module),
        "owner": names.module_id(owner.module),
        "owner_path": owner.path,
        "owner_since": now_text(owner.at),
        "since": now_text(contest.at),
    }


def _shadow(api_version: str, namespace: str, shadow: shadowing.Shadow) -> Json:
    return {
        "api_version": api_version,
        "namespace": namespace,
        "methods": list(shadow.methods),
        "path": shadow.route.path,
        "shape": shadow.route.shape,
        "shadowed": names.module_id(shadow.route.module),
        "owner": names.module_id(shadow.by.module),
        "owner_path": shadow.by.path,
        "reason": "left_open" if shadow.left_open else "more_specific",
        "whole": shadow.whole,
        "example": shadow.example,
        "since": now_text(shadow.since),
    }
