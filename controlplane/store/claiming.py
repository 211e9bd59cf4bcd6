"""Route claims inside a transaction: at most one module holds a (version, namespace, method, path shape).

Called by `controlplane.store.transactions`; which claims a module needs, and what a refusal says, is decided by
`controlplane.reconcile`.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import bindparam, delete, insert, select

from controlplane.store import encoding
from controlplane.store.ledgers import Ledger
from controlplane.store.records import Claim, Record
from controlplane.store.tables import CLAIMS

_INSERT: Final = insert(CLAIMS)
_OF_NAMESPACE: Final = select(*encoding.CLAIM_COLUMNS).where(
    CLAIMS.c.api_version == bindparam("api_version"), CLAIMS.c.namespace == bindparam("namespace")
)
_OF_UID: Final = select(*encoding.CLAIM_COLUMNS).where(CLAIMS.c.uid == bindparam("uid"))
_DELETE: Final = delete(CLAIMS).where(
    CLAIMS.c.api_version == bindparam("api_version_"),
    CLAIMS.c.namespace == bindparam("namespace_"),
    CLAIMS.c.method == bindparam("method_"),
    CLAIMS.c.shape == bindparam("shape_"),
)


def take(
    ledger: Ledger, record: Record, api_version: str, namespace: str, wanted: Collection[tuple[str, str, str]]
) -> list[Claim]:
    """Take each (method, shape, path) that the record's uid does not hold; or nothing, if others hold any of them.

    Returns the claims of others that stand in the way, oldest first.
    """
    ledger.flush(CLAIMS)
    rows = ledger.ask(_OF_NAMESPACE, {"api_version": api_version, "namespace": namespace})
    held = {(claim.method, claim.shape): claim for claim in map(encoding.claim, rows)}
    others = [
        held[method, shape]
        for method, shape, _ in wanted
        if (method, shape) in held and held[method, shape].uid != record.uid
    ]
    if others:
        return sorted(set(others), key=lambda claim: (claim.revision, claim.shape, claim.method))
    new = {(method, shape): path for method, shape, path in wanted if (method, shape) not in held}
    if new:
        revision = ledger.advance()
        for (method, shape), path in new.items():
            claim = Claim(api_version, namespace, method, shape, path, record.uid, record.name, revision)
            ledger.wait(CLAIMS, _INSERT, claim._asdict())
    return []


def release(ledger: Ledger, uid: str, keep: Collection[tuple[str, str, str, str]] = ()) -> None:
    """Give up a uid's claims but those of ``keep``: (apiVersion, namespace, method, shape)."""
    kept = set(keep)
    ledger.flush(CLAIMS)
    for claim in map(encoding.claim, ledger.ask(_OF_UID, {"uid": uid})):
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
