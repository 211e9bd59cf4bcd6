"""Whatever is done to kept records is found, and nothing else is; a chain that lost records openly is no fault."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kits import chains, walks
from schemas.kits.chains import Break, Chain, Head, Statement
from schemas.kits.walks import Row

CHAIN = Chain("w0", "ab12")
OTHER = Chain("w1", "cd34")


def rows_of(chain: Chain, count: int, start: int = 0, word: str = "a") -> tuple[list[Row], Statement]:
    """A chain as it is kept, ids from ``start`` on, and what is signed of it."""
    head, rows = chains.genesis(chain), []
    for number in range(1, count + 1):
        said = {"kind": word, "at": f"t{number}", "writer": chain.writer, "boot": chain.boot, "seq": number}
        body = chains.canonical(said)
        head = chains.follow(head, body)
        rows.append(Row(start + number, chain, number, head.hash, body))
    return rows, Statement(chain, chains.genesis(chain), head, closed=False)


def walked(rows: list[Row], kept: list[Statement], stated: list[Statement] | None = None) -> list[walks.Fault]:
    walk = walks.Walk({each.chain: each for each in kept})
    for row in rows:
        walk.step(row)
    return walk.end(stated or [])


def mixed(count: int = 6) -> tuple[list[Row], list[Statement]]:
    """Two chains, kept by turns."""
    mine, my_end = rows_of(CHAIN, count)
    theirs, their_end = rows_of(OTHER, count)
    both = [row for pair in zip(mine, theirs, strict=True) for row in pair]
    return [replace(row, id=place) for place, row in enumerate(both, 1)], [my_end, their_end]


def test_what_nobody_touched_has_no_fault() -> None:
    rows, kept = mixed()
    assert walked(rows, kept) == []
    assert walked(rows, kept, kept) == []


def edited(rows: list[Row]) -> list[Row]:
    return [*rows[:4], replace(rows[4], body=rows[4].body.replace(b'"t3"', b'"t9"')), *rows[5:]]


def edited_with_its_hash(rows: list[Row]) -> list[Row]:
    body = rows[4].body.replace(b'"t3"', b'"t9"')
    return [*rows[:4], replace(rows[4], body=body, hash=chains.follow(Head(2, rows[2].hash), body).hash), *rows[5:]]


def deleted(rows: list[Row]) -> list[Row]:
    return [*rows[:4], *rows[5:]]


def reordered(rows: list[Row]) -> list[Row]:
    return [*rows[:4], rows[6], rows[5], rows[4], *rows[7:]]


def inserted(rows: list[Row]) -> list[Row]:
    body = rows[4].body.replace(b'"t3"', b'"t9"')
    return [*rows[:5], replace(rows[4], body=body), *rows[5:]]


def cut(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.chain != CHAIN or row.seq < 5]


def forked(rows: list[Row]) -> list[Row]:
    """From number 4 on another, well-linked story."""
    head, story = Head(3, rows[4].hash), []
    for row in rows:
        if row.chain == CHAIN and row.seq > 3:
            body = row.body.replace(b'"a"', b'"b"')
            head = chains.follow(head, body)
            story.append(replace(row, body=body, hash=head.hash))
        else:
            story.append(row)
    return story


def beheaded(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.chain != CHAIN or row.seq > 2]


def taken_away(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.chain != CHAIN]


@pytest.mark.parametrize(
    ("tamper", "seq", "kind"),
    [
        (edited, 3, walks.CHANGED),
        (edited_with_its_hash, 4, walks.CHANGED),
        (deleted, 3, walks.MISSING),
        (reordered, 3, walks.MISSING),
        (inserted, 3, walks.REORDERED),
        (cut, 5, walks.CUT),
        (forked, 6, walks.REWRITTEN),
        (beheaded, 1, walks.MISSING),
        (taken_away, 1, walks.CUT),
    ],
)
def test_what_was_done_is_found_with_its_first_record(
    tamper: Callable[[list[Row]], list[Row]], seq: int, kind: str
) -> None:
    rows, kept = mixed()
    (fault,) = walked(tamper(rows), kept)
    assert (fault.chain, fault.seq, fault.kind) == (CHAIN, seq, kind)


def test_an_old_copy_of_everything_is_found_by_what_was_signed_elsewhere() -> None:
    old, old_kept = mixed(4)
    _, elsewhere = mixed(6)
    assert walked(old, old_kept) == []
    assert {(fault.chain, fault.seq, fault.kind) for fault in walked(old, old_kept, elsewhere)} == {
        (CHAIN, 5, walks.CUT),
        (OTHER, 5, walks.CUT),
    }


def test_a_chain_that_is_gone_with_all_that_was_kept_of_it_is_found_by_what_was_signed_elsewhere() -> None:
    rows, kept = mixed()
    (fault,) = walked(taken_away(rows), kept[1:], kept)
    assert (fault.chain, fault.kind) == (CHAIN, walks.CUT)


def test_a_chain_that_nobody_signed_is_a_fault() -> None:
    rows, kept = mixed()
    (fault,) = walked(rows, kept[:1])
    assert (fault.chain, fault.kind) == (OTHER, walks.UNSIGNED)


def test_records_behind_what_is_signed_are_a_fault() -> None:
    rows, kept = mixed(6)
    _, before = mixed(4)
    assert [(fault.seq, fault.kind) for fault in walked(rows, [before[0], kept[1]])] == [(5, walks.UNSIGNED)]


def test_a_clock_that_goes_back_is_no_fault() -> None:
    head, rows = chains.genesis(CHAIN), []
    for number, at in enumerate(("2026-01-02", "2026-01-01", "2026-03-01", "1970-01-01"), 1):
        body = chains.canonical({"at": at, "writer": "w0", "boot": "ab12", "seq": number})
        head = chains.follow(head, body)
        rows.append(Row(number, CHAIN, number, head.hash, body))
    assert walked(rows, [Statement(CHAIN, chains.genesis(CHAIN), head, closed=False)]) == []


def test_what_was_let_go_openly_is_no_fault() -> None:
    """The oldest are gone, and in the middle some were lost: both stand in what is signed."""
    rows, end = rows_of(CHAIN, 9)
    base = Head(2, rows[1].hash)
    stated = replace(end, base=base, breaks=(Break(4, Head(6, rows[5].hash)),))
    kept = [row for row in rows if row.seq > 2 and row.seq not in {5, 6}]
    assert walked(kept, [stated]) == []
    (fault,) = walked([row for row in kept if row.seq != 7], [stated])
    assert (fault.seq, fault.kind) == (7, walks.MISSING)


def test_a_record_of_another_chain_proves_nothing_here() -> None:
    rows, _ = rows_of(OTHER, 1)
    head = chains.follow(chains.genesis(CHAIN), rows[0].body)
    moved = Row(1, CHAIN, 1, head.hash, rows[0].body)
    (fault,) = walked([moved], [Statement(CHAIN, chains.genesis(CHAIN), head, closed=False)])
    assert fault.kind == walks.CHANGED


@given(st.data())
def test_any_change_of_what_is_kept_is_found(data: st.DataObject) -> None:
    rows, kept = mixed(4)
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    what = data.draw(st.sampled_from(["body", "hash", "drop", "double", "swap", "seq"]))
    if what == "body":
        at = data.draw(st.integers(0, len(row.body) - 1))
        bit = data.draw(st.integers(0, 7))
        rows[place] = replace(row, body=row.body[:at] + bytes([row.body[at] ^ (1 << bit)]) + row.body[at + 1 :])
    elif what == "hash":
        rows[place] = replace(row, hash=row.hash[:-1] + bytes([row.hash[-1] ^ 1]))
    elif what == "drop":
        del rows[place]
    elif what == "double":
        rows.insert(place, row)
    elif what == "seq":
        rows[place] = replace(row, seq=row.seq + data.draw(st.sampled_from([-1, 1, 100])))
    else:
        other = data.draw(st.integers(0, len(rows) - 1).filter(lambda each: rows[each].chain == row.chain))
        if other == place:
            return
        rows[place], rows[other] = rows[other], row
    assert walked(rows, kept)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers(0, 99), max_size=4), max_size=5))
def test_a_batch_is_read_back_as_it_was(said: list[dict[str, str | int]]) -> None:
    records = []
    for number, each in enumerate(said, 8):
        try:
            records.append(chains.canonical(each | {"writer": "w0", "boot": "ab12", "seq": number}))
        except ValueError:  # half a surrogate pair is no text
            records.append(chains.canonical({"writer": "w0", "boot": "ab12", "seq": number}))
    batch = chains.Batch(CHAIN, Head(7, b"h" * 32), records)
    if not records:
        with pytest.raises(chains.UnreadableError):
            chains.decode(batch.encode())
        return
    assert chains.decode(batch.encode()) == batch
    assert all(chains.belongs(record, CHAIN, number) for number, record in enumerate(records, 8))
    assert not any(chains.belongs(record, CHAIN, number) for number, record in enumerate(records, 9))


@given(st.binary() | st.text().map(str.encode))
def test_nonsense_is_no_batch_and_no_statement(data: bytes) -> None:
    with pytest.raises(chains.UnreadableError):
        chains.decode(data)
    with pytest.raises(chains.UnreadableError):
        chains.statement(data)


def test_a_statement_is_read_back_as_it_was() -> None:
    said = Statement(CHAIN, Head(3, b"b" * 32), Head(9, b"e" * 32), closed=True, breaks=(Break(4, Head(6, b"x" * 32)),))
    assert chains.statement(said.said()) == said


@pytest.mark.parametrize(
    "record",
    [
        b'{"writer":"w0","boot":"ab12","seq":1}',
        b'{"boot":"ab12","seq":1,"writer":"w0","writer":"w0"}',
        b'{"boot":"ab12","seq":1.0,"writer":"w0"}',
        b'{"boot":"ab12","seq":true,"writer":"w0"}',
        b'{"boot": "ab12","seq":1,"writer":"w0"}',
        b"[1]",
        b"",
    ],
)
def test_a_record_has_one_spelling(record: bytes) -> None:
    assert chains.belongs(record, CHAIN, 1) is None
    assert chains.belongs(b'{"boot":"ab12","seq":1,"writer":"w0"}', CHAIN, 1)
