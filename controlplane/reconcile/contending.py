"""What modules that share a namespace have to be told of each other's routes: RoutesContested and RoutesOverlap.

Both conditions are there only while they are True, stand on both sides, and hold up nothing: a contested route is
still its owner's, and of two routes that catch a request the more specific one answers.
Pure.  What always holds: the words depend on claims and refusals only, oldest first and a few of them, so that a
module that many others touch is not written anew for each of them.  Called by `deciding`.
"""

from collections.abc import Iterable
from typing import Final

from controlplane.admission import shadowing
from controlplane.admission.conflicts import RouteConflict
from controlplane.admission.shadowing import Shadow
from controlplane.reconcile.drafting import Draft
from controlplane.reconcile.facts import Facts
from controlplane.store.records import Claim, Contest
from schemas import conditions, paths
from schemas.module import DesiredModule

_SHOWN: Final = 3
_UNBORN: Final = 1 << 62
"""The age of claims that are taken with the decision: younger than every other."""


def put(draft: Draft, facts: Facts, desired: DesiredModule | None = None) -> None:
    """Say who else wants this module's routes or answers close by; ``desired``: what is registered with this."""
    if not (facts.refused or facts.near):  # as of most modules
        draft.drop(conditions.ROUTES_CONTESTED)
        draft.drop(conditions.ROUTES_OVERLAP)
        draft.touching = set()
        return
    mine = _mine(facts, desired)
    contested = _contested(mine, facts.refused)
    shadows = _shadows(mine, facts.near)
    said = [_says_contested(*pair) for pair in contested[: _SHOWN + 1]]
    _put(draft, conditions.ROUTES_CONTESTED, "ClaimRefused", said)
    _put(draft, conditions.ROUTES_OVERLAP, *_overlap(facts.record.uid, shadows))
    touching = {contest.module for _, contest in contested}
    touching |= {route.module for shadow in shadows for route in (shadow.route, shadow.by)}
    draft.touching = touching - {facts.record.name}


def refuse(draft: Draft, facts: Facts, refused: Iterable[RouteConflict]) -> None:
    """Note what this module is refused; what was refused before keeps its time."""
    known = {(entry.api_version, entry.namespace, entry.method, entry.shape): entry.at for entry in facts.contests}
    listed = list(refused)
    found = {}
    for each in listed:
        key = (each.api_version, each.namespace, each.method, each.shape)
        found[key] = Contest(*key, each.path, facts.record.uid, facts.record.name, known.get(key, facts.now))
    draft.contests = tuple(found[key] for key in sorted(found))
    draft.touching = (draft.touching or set()) | {each.owner for each in listed}


def _mine(facts: Facts, desired: DesiredModule | None) -> list[Claim]:
    """What the module holds in its namespace, and takes with this decision."""
    spec, record = facts.spec, facts.record
    if spec is None:
        return []
    where = (spec.routing.api_version, spec.namespace(record.name))
    held = [claim for claim in facts.held if (claim.api_version, claim.namespace) == where]
    known = {(claim.method, claim.shape) for claim in held}
    wanted = [] if desired is None else [(route.path, method) for route in desired.routes for method in route.methods]
    for path, method in wanted:
        shape = paths.path_shape(path)
        if (method, shape) not in known:
            held.append(Claim(*where, method, shape, path, record.uid, record.name, _UNBORN, facts.now))
    return held


def _contested(mine: Iterable[Claim], refused: Iterable[Contest]) -> list[tuple[Claim, Contest]]:
    by_shape: dict[str, list[Claim]] = {}
    for claim in mine:
        by_shape.setdefault(claim.shape, []).append(claim)
    found = []
    for contest in refused:
        stands = (c for c in by_shape.get(contest.shape, ()) if paths.excludes(c.method, contest.method))
        if (held := next(stands, None)) is not None:
            found.append((held, contest))
    return found


def _shadows(mine: Iterable[Claim], near: Iterable[Claim]) -> list[Shadow]:
    others = shadowing.routes_of(near)
    return shadowing.between(shadowing.routes_of(mine), others) if others else []


def _says_contested(claim: Claim, contest: Contest) -> str:
    return (
        f"module {contest.module} asks for {contest.method} {contest.path}, which this module holds"
        f" (as {claim.path}) and keeps; nothing is to be done, unless the other one shall have it"
    )


def _overlap(uid: str, shadows: list[Shadow]) -> tuple[str, list[str]]:
    loses = [shadow for shadow in shadows if shadow.route.uid == uid]
    takes = [shadow for shadow in shadows if shadow.by.uid == uid]
    reason = "Shadowed" if not takes else "Shadowing" if not loses else "ShadowedAndShadowing"
    said = [(_says_loses, shadow) for shadow in loses] + [(_says_takes, shadow) for shadow in takes]
    return reason, [say(shadow) for say, shadow in said[: _SHOWN + 1]]


def _says_loses(shadow: Shadow) -> str:
    other = f"module {shadow.by.module} ({shadow.by.path})"
    if shadow.left_open:
        return f"{_requests(shadow)}, which this module leaves open, are answered by {other}"
    return f"{_requests(shadow)} are answered by {other}, whose route is more specific"


def _says_takes(shadow: Shadow) -> str:
    other = f"module {shadow.route.module}"
    if shadow.left_open:
        return f"{shadow.by.path} answers {_requests(shadow)}, which {other} leaves open"
    return f"{shadow.by.path} answers {_requests(shadow)} before {other}, being more specific"


def _requests(shadow: Shadow) -> str:
    methods = "/".join("any method" if each == paths.ANY_METHOD else each for each in shadow.methods)
    part = "all" if shadow.whole else "some"
    example = f" such as {shadow.example}" if shadow.example not in ("", shadow.route.path) else ""
    return f"{part} requests for {methods} {shadow.route.path}{example}"


def _put(draft: Draft, kind: str, reason: str, said: list[str]) -> None:
    if not said:
        draft.drop(kind)
        return
    more = "; and others" if len(said) > _SHOWN else ""
    draft.put(kind, True, reason, "; ".join(said[:_SHOWN]) + more)
