"""The lines of modules: bounded, limited, and what was dropped is said."""

from hypothesis import given
from hypothesis import strategies as st

from dataplane.telemetry import lines
from schemas.lines import BYTES_MAX, LINES_MAX


class Kept(lines.Lines):
    """Lines under a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now, lambda: self.now)

    def texts(self, module: str = "shop", after: int = 0) -> list[str]:
        return [line.text for line in self.of(module, after)[0]]


def test_lines_are_told_from_the_last_known_on() -> None:
    kept = Kept()
    kept.note("shop", "stdout", "one")
    kept.note("users", "stdout", "other")
    kept.note("shop", "stderr", "two")
    first, _ = kept.of("shop")
    assert [(line.level, line.text) for line in first] == [("stdout", "one"), ("stderr", "two")]
    assert kept.texts(after=first[0].number) == ["two"]
    assert kept.texts("nobody") == []


def test_what_is_over_the_rate_is_dropped_and_said_with_the_next_line() -> None:
    kept = Kept()
    answers = [kept.note("shop", "stdout", "x") for _ in range(int(lines.BURST) + 7)]
    assert answers.count(None) == 7
    assert kept.note("users", "stdout", "not its fault") == 0
    assert kept.note("shop", "error", "the host's own word", limited=False) == 7
    kept.now += 0.05
    assert [kept.note("shop", "stdout", f"later {number}") for number in range(7)] == [0, 0, 0, 0, 0, None, None]
    kept.now += 1.0
    assert kept.note("shop", "stdout", "last") == 2
    assert kept.texts()[-2:] == ["2 lines were dropped here: more than 100 a second", "last"]
    assert kept.of("shop")[1] == 9


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9_000)), max_size=300))
def test_every_module_is_bounded_and_so_are_all(written: list[tuple[str, int]]) -> None:
    kept = Kept()
    for module, size in written:
        kept.note(module, "stdout", "x" * size, limited=False)
    for module in "abc":
        texts = kept.texts(module)
        assert len(texts) <= LINES_MAX
        assert sum(map(len, texts)) <= BYTES_MAX
        newest = [min(size, lines.TEXT_MAX) for name, size in written if name == module]
        assert [len(text) for text in texts] == newest[len(newest) - len(texts) :]


def test_whoever_wrote_nothing_for_longest_is_forgotten_first() -> None:
    kept = Kept()
    each = BYTES_MAX // 4_096
    for number in range(lines.ALL_MAX // BYTES_MAX + 3):
        for _ in range(each):
            kept.note(f"m{number}", "stdout", "x" * 4_096, limited=False)
        kept.note("m0", "stdout", "still here", limited=False)
    assert kept.texts("m0")
    assert kept.texts("m1") == []
    assert kept.texts(f"m{number}")
