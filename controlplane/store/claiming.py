"""Route claims inside a transaction: at most one module holds a (version, namespace, method, path shape).

What was refused is kept beside them, so that everybody can be told.  Called by `controlplane.store.transactions`;
which claims a module needs, and what a refusal says, is decided by `controlplane.reconcile`.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import bindparam, delete, insert, select

from controlplane.store import encoding, neighbouring
from controlplane.store.ledgers import Ledger
from controlplane.store.records import Claim, Contest, Record
from controlplane.store.tables import CLAIMS, CONTESTS
from schemas import paths

_INSERT: Final = insert(CLAIMS)
_OF_UID: Final = (
    select(*encoding.CLAIM_COLUMNS)
    .where(CLAIMS.c.uid == bindparam("uid"))
    .order_by(CLAIMS.c.revision, CLAIMS.c.shape, CLAIMS.c.method)
)
_DELETE: Final = delete(CLAIMS).where(
    CLAIMS.c.api_version == bindparam("api_version_"),
    CLAIMS.c.namespace == bindparam("namespace_"),
    CLAIMS.c.shape == bindparam("shape_"),
    CLAIMS.c.method == bindparam("method_"),
)
_CONTEST: Final = insert(CONTESTS)
_SETTLE: Final = delete(CONTESTS).where(CONTESTS.c.uid == bindparam("uid_"))


def take(
    ledger: Ledger, record: Record, api_version: str, namespace: str, wanted: Collection[tuple[str, str, str]]
) -> list[Claim]:
    """Take each (method, shape, path) that the record's uid does not hold; or nothing, if others stand in the way.

    Returns the claims of others that do, oldest first.
    """
    if _has_all(ledger.claims.get(record.uid, ()), api_version, namespace, wanted):
        return []
    ledger.claims.clear()
    ledger.flush(CLAIMS)
    held = neighbouring.claims_at(ledger.ask, api_version, namespace, {shape for _, shape, _ in wanted})
    asked: dict[str, set[str]] = {}
    for method, shape, _ in wanted:
        asked.setdefault(shape, set()).add(method)
    others = [
        claim
        for claim in held
        if claim.uid != record.uid and any(paths.excludes(claim.method, method) for method in asked[claim.shape])
    ]
    if others:
        return others
    own = {(claim.method, claim.shape) for claim in held if claim.uid == record.uid}
    new = {(method, shape): path for method, shape, path in wanted if (method, shape) not in own}
    if new:
        revision = ledger.advance()
        for (method, shape), path in new.items():
            claim = Claim(api_version, namespace, method, shape, path, record.uid, record.name, revision, ledger.now)
            ledger.wait(CLAIMS, _INSERT, encoding.claim_row(claim))
    return []


def _has_all(
    own: Collection[Claim], api_version: str, namespace: str, wanted: Collection[tuple[str, str, str]]
) -> bool:
    """Whether one module's claims are all that it wants: whoever has a claim need not look for others' in its place."""
    places = {(claim.api_version, claim.namespace, claim.method, claim.shape) for claim in own}
    return bool(places) and all((api_version, namespace, method, shape) in places for method, shape, _ in wanted)


def held(ledger: Ledger, uid: str) -> list[Claim]:
    """What a uid holds, oldest first."""
    ledger.flush(CLAIMS)
    found = ledger.claims[uid] = [encoding.claim(row) for row in ledger.ask(_OF_UID, {"uid": uid})]
    return found


def release(ledger: Ledger, uid: str, keep: Collection[tuple[str, str, str, str]] = ()) -> None:
    """Give up a uid's claims but those of ``keep``: (apiVersion, namespace, method, shape)."""
    kept = set(keep)
    own = held(ledger, uid)
    ledger.claims.clear()
    for claim in own:
        if (claim.api_version, claim.namespace, claim.method, claim.shape) not in kept:
            ledger.wait(
                CLAIMS,
                _DELETE,
                {
                    "api_version_": claim.api_version,
                    "namespace_": claim.namespace,
                    "method_": claim.method,
                    "shape_": claim.shape,
                },
            )


def contest(ledger: Ledger, uid: str, refused: Collection[Contest]) -> None:
    """Write down what a uid is refused now, in place of what it was refused before."""
    ledger.wait(CONTESTS, _SETTLE, {"uid_": uid})
    for entry in refused:
        ledger.wait(CONTESTS, _CONTEST, encoding.contest_row(entry))
