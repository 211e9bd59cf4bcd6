"""Chains of audit records for tests, and a trail that keeps them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from controlplane.audit.sealing import Sealer
from controlplane.audit.trails import Trail
from schemas.kits import chains
from schemas.kits.chains import Batch, Chain, Head
from tests.doubles.keys import SIGNER, TRUSTED

SEALER = Sealer(SIGNER, TRUSTED)


class Writer:
    """Writes batches of one chain."""

    def __init__(self, writer: str = "w0", boot: str = "ab12") -> None:
        self.chain = Chain(writer, boot)
        self.head: Head = chains.genesis(self.chain)

    def batch(self, count: int = 1, **said: Any) -> Batch:
        """The next records, each with what is said and an ``at`` that counts."""
        first = self.head.seq
        return self.of({"at": f"2026-01-01T00:00:{first + place:06.3f}Z", **said} for place in range(count))

    def of(self, records: Iterable[dict[str, Any]]) -> Batch:
        """These records."""
        before, bodies = self.head, []
        for record in records:
            named = {"kind": "decision", **record, "writer": self.chain.writer, "boot": self.chain.boot}
            body = chains.canonical(named | {"seq": self.head.seq + 1})
            self.head = chains.follow(self.head, body)
            bodies.append(body)
        return Batch(self.chain, before, bodies)


def trail(folder: Path) -> Trail:
    """A trail that signs with a key that every test knows."""
    return Trail(folder / "audit.db", SEALER)
