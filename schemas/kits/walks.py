"""Walking along chains of records, as they are kept, to find the first place where something was done to them.

Records are looked at in the order in which they are kept; then each chain's end is held against what was signed of it.
Always: a clock that went back is no fault, since order comes from numbers and hashes; of each chain the first fault is
told, for what follows a broken link proves nothing more.  Pure; knows nothing of what is recorded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.kits.chains import Chain, Head, Json, Statement, belongs, follow, genesis

CHANGED: Final = "Changed"
MISSING: Final = "Missing"
REORDERED: Final = "OutOfOrder"
CUT: Final = "CutOff"
REWRITTEN: Final = "Rewritten"
UNSIGNED: Final = "NotSigned"


@dataclass(frozen=True, slots=True)
class Row:
    """A record as it is kept."""

    id: int
    chain: Chain
    seq: int
    hash: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """Something was done to a chain."""

    chain: Chain
    seq: int
    """The first bad record."""
    row: int | None
    """Under which id it is kept; None if it is not there."""
    kind: str
    message: str

    def wire(self) -> Json:
        """For people and programs."""
        return {
            "writer": self.chain.writer,
            "boot": self.chain.boot,
            "seq": self.seq,
            "id": self.row,
            "kind": self.kind,
            "message": self.message,
        }


@dataclass(slots=True)
class Walked:
    """Where the walk along one chain is."""

    chain: Chain
    base: Head
    head: Head
    breaks: Mapping[int, Head]
    fault: Fault | None = None
    rows: int = 0


class Walk:
    """Along all chains at once."""

    def __init__(self, kept: Mapping[Chain, Statement], look: Callable[[Json], None] = lambda record: None) -> None:
        """``kept``: what is stated of chains beside their records, already believed; ``look`` sees each record."""
        self._kept = kept
        self._look = look
        self.chains: dict[Chain, Walked] = {}
        self.records = 0

    def step(self, row: Row) -> None:
        """The next record, in the order of ids."""
        self.records += 1
        walked = self.chains.get(row.chain) or self._begin(row.chain)
        walked.rows += 1
        if walked.fault is not None:
            return
        head = walked.head
        if row.seq != head.seq + 1 and (jump := walked.breaks.get(head.seq)) is not None:
            head = jump
        if row.seq != head.seq + 1:
            walked.fault = _out_of_line(row, head)
            return
        after = follow(head, row.body)
        record = belongs(row.body, row.chain, row.seq)
        if after.hash != row.hash or record is None:
            words = "its text or hash is not what was written, or it does not follow on the one before"
            walked.fault = Fault(row.chain, row.seq, row.id, CHANGED, words)
            return
        walked.head = after
        self._look(record)

    def end(self, stated: Iterable[Statement]) -> list[Fault]:
        """All faults, the earliest kept first; ``stated``: everything that was ever signed and is still known."""
        for each in self._kept.values():
            _ = self.chains.get(each.chain) or self._begin(each.chain)
        by_chain: dict[Chain, list[Statement]] = {}
        for each in [*self._kept.values(), *stated]:
            by_chain.setdefault(each.chain, []).append(each)
        for chain, walked in self.chains.items():
            if walked.fault is None:
                walked.fault = _against(walked, by_chain.pop(chain, []), chain in self._kept)
            else:
                by_chain.pop(chain, None)
        faults = [walked.fault for walked in self.chains.values() if walked.fault is not None]
        faults += [_gone(each) for many in by_chain.values() for each in many[-1:] if each.head.seq > 0]
        return sorted(faults, key=lambda fault: (fault.row is None, fault.row or 0, fault.chain, fault.seq))

    def _begin(self, chain: Chain) -> Walked:
        kept = self._kept.get(chain)
        base = genesis(chain) if kept is None else kept.base
        breaks = {} if kept is None else {each.after: each.before for each in kept.breaks}
        walked = self.chains[chain] = Walked(chain, base, base, breaks)
        return walked


def _out_of_line(row: Row, head: Head) -> Fault:
    if row.seq <= head.seq:
        words = f"it is kept behind number {head.seq}: it was moved, or is there a second time"
        return Fault(row.chain, row.seq, row.id, REORDERED, words)
    words = f"number {row.seq} follows on number {head.seq}: what was between them was taken out, or moved behind"
    return Fault(row.chain, head.seq + 1, None, MISSING, words)


def _against(walked: Walked, stated: Sequence[Statement], kept: bool) -> Fault | None:
    """The end of a chain held against all that was signed of it."""
    chain, head = walked.chain, walked.head
    if not kept and walked.rows:
        return Fault(chain, head.seq, None, UNSIGNED, "nothing signed is kept of this chain: somebody put it in")
    for each in sorted(stated, key=lambda each: each.head.seq):
        if each.head.seq > head.seq:
            words = f"the chain was signed up to number {each.head.seq}; the records from {head.seq + 1} on are gone"
            return Fault(chain, head.seq + 1, None, CUT, words)
        if each.head.seq == head.seq and each.head.hash != head.hash:
            words = "the records up to this one are others than those that were signed: the chain was written anew"
            return Fault(chain, head.seq, None, REWRITTEN, words)
    if stated and max(each.head.seq for each in stated) < head.seq:
        first = max(each.head.seq for each in stated) + 1
        return Fault(chain, first, None, UNSIGNED, "nothing signed covers the chain from this record on")
    return None


def _gone(last: Statement) -> Fault:
    words = f"the chain was signed up to number {last.head.seq}, and no record of it is kept"
    return Fault(last.chain, last.base.seq + 1, None, CUT, words)
