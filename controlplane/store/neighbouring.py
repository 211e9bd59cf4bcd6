"""Questions about the claims around a module's routes: who holds them, who wants them, who answers close by.

What always holds: the cost depends on what is asked about and on what is found, never on how many claims there are,
in all or in one namespace.  Statements are constants with a fixed number of places, so that they are prepared once.
Called by `controlplane.store.claiming` in a transaction, and by `controlplane.reconcile` and `controlplane.api` on a
snapshot (`Reading.ask`).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import BindParameter, Select, bindparam, exists, func, literal, or_, select

from controlplane.store import encoding
from controlplane.store.records import Claim, Contest
from controlplane.store.tables import CLAIMS, CONTESTS
from schemas import paths

Ask: TypeAlias = Callable[[Select[Any], Mapping[str, Any]], list[Any]]

_PLACES: Final = 16
"""How many values one statement asks about."""
NEAR: Final = 200
"""How many claims below one stem are looked at, the oldest first."""

_IN: Final[list[BindParameter[str]]] = [bindparam(f"in{place}") for place in range(_PLACES)]


def _of(table: Any) -> Any:
    return (table.c.api_version == bindparam("api_version")) & (table.c.namespace == bindparam("namespace"))


_ANYBODY: Final = select(
    or_(
        exists(select(literal(1)).where(_of(CLAIMS), CLAIMS.c.uid != bindparam("uid"))),
        exists(select(literal(1)).where(_of(CONTESTS))),
        exists(select(literal(1)).where(CONTESTS.c.uid == bindparam("uid"))),
    )
)
_BY_AGE: Final = (CLAIMS.c.revision, CLAIMS.c.shape, CLAIMS.c.method)
_CLAIMS: Final = select(*encoding.CLAIM_COLUMNS).order_by(*_BY_AGE)
_CLAIMS_AT: Final = _CLAIMS.where(_of(CLAIMS), CLAIMS.c.shape.in_(_IN))
_CLAIMS_ON: Final = _CLAIMS.where(_of(CLAIMS), CLAIMS.c.stem.in_(_IN), CLAIMS.c.uid != bindparam("uid")).limit(
    bindparam("limit")
)
_CLAIMS_BELOW: Final = _CLAIMS.where(
    _of(CLAIMS),
    CLAIMS.c.stem >= bindparam("begin"),
    CLAIMS.c.stem < bindparam("end"),
    CLAIMS.c.uid != bindparam("uid"),
).limit(bindparam("limit"))
_CONTESTS: Final = select(*encoding.CONTEST_COLUMNS).order_by(
    CONTESTS.c.at, CONTESTS.c.module, CONTESTS.c.shape, CONTESTS.c.method
)
_CONTESTS_AT: Final = _CONTESTS.where(_of(CONTESTS), CONTESTS.c.shape.in_(_IN), CONTESTS.c.uid != bindparam("uid"))
_CONTESTS_OF: Final = _CONTESTS.where(CONTESTS.c.uid == bindparam("uid"))
_SHARED: Final = (
    select(CLAIMS.c.api_version, CLAIMS.c.namespace)
    .group_by(CLAIMS.c.api_version, CLAIMS.c.namespace)
    .having(func.min(CLAIMS.c.uid) != func.max(CLAIMS.c.uid))
    .order_by(CLAIMS.c.api_version, CLAIMS.c.namespace)
)


def anybody(ask: Ask, api_version: str, namespace: str, uid: str) -> bool:
    """Whether a module has to be compared with anybody: others hold routes in its namespace, or routes are refused."""
    ((found,),) = ask(_ANYBODY, {"api_version": api_version, "namespace": namespace, "uid": uid})
    return bool(found)


def claims_at(ask: Ask, api_version: str, namespace: str, shapes: Collection[str]) -> list[Claim]:
    """Every claim on one of these path shapes, of any method, oldest first."""
    asked = {"api_version": api_version, "namespace": namespace}
    rows = [row for places in _padded(shapes) for row in ask(_CLAIMS_AT, {**asked, **places})]
    return _aged(map(encoding.claim, rows))


def claims_near(ask: Ask, api_version: str, namespace: str, uid: str, templates: Collection[str]) -> list[Claim]:
    """Claims of others that may catch a request of one of these paths, oldest first; `NEAR` for each stem at most."""
    asked = {"api_version": api_version, "namespace": namespace, "uid": uid, "limit": NEAR}
    stems = {paths.stem(template) for template in templates}
    above = {part for stem in stems for part in _upwards(stem)}
    rows = {tuple(row) for places in _padded(above) for row in ask(_CLAIMS_ON, {**asked, **places})}
    for stem in _widest(paths.stem(template) for template in templates if paths.PARAMETER.search(template)):
        rows.update(map(tuple, ask(_CLAIMS_BELOW, {**asked, "begin": stem, "end": paths.after(stem)})))
    return _aged(map(encoding.claim, rows))


def contests_at(ask: Ask, api_version: str, namespace: str, uid: str, shapes: Collection[str]) -> list[Contest]:
    """What others are refused on these path shapes, of any method, oldest first."""
    asked = {"api_version": api_version, "namespace": namespace, "uid": uid}
    rows = [row for places in _padded(shapes) for row in ask(_CONTESTS_AT, {**asked, **places})]
    return sorted(map(encoding.contest, rows), key=lambda entry: (entry.at, entry.module, entry.shape, entry.method))


def contests_of(ask: Ask, uid: str) -> list[Contest]:
    """What a module is refused, sorted."""
    found = [encoding.contest(row) for row in ask(_CONTESTS_OF, {"uid": uid})]
    return sorted(found, key=lambda entry: (entry.api_version, entry.namespace, entry.method, entry.shape))


def contests(ask: Ask) -> list[Contest]:
    """Everything that is refused, oldest first."""
    return [encoding.contest(row) for row in ask(_CONTESTS, {})]


def shared(ask: Ask) -> list[tuple[str, str]]:
    """Every (apiVersion, namespace) in which more than one module holds routes."""
    return [(api_version, namespace) for api_version, namespace in ask(_SHARED, {})]


def _padded(values: Collection[str]) -> Iterator[dict[str, str]]:
    """The places of a statement filled with these values, the last one as often as it takes."""
    ordered = sorted(values)
    for start in range(0, len(ordered), _PLACES):
        some = ordered[start : start + _PLACES]
        yield {f"in{place}": some[min(place, len(some) - 1)] for place in range(_PLACES)}


def _upwards(stem: str) -> Iterator[str]:
    """A stem, and every stem of a template that is above it."""
    yield stem
    end = stem.rfind("/")
    while end >= 0:
        yield stem[: end + 1]
        end = stem.rfind("/", 0, end)


def _widest(stems: Iterable[str]) -> list[str]:
    """Of stems, those that do not begin with another one."""
    found: list[str] = []
    for stem in sorted(stems):
        if not found or not stem.startswith(found[-1]):
            found.append(stem)
    return found


def _aged(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: (claim.revision, claim.shape, claim.method))
