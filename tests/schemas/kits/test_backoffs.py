"""How long to wait after a failure."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from schemas.kits.backoffs import Backoff, jittered


@given(st.integers(-3, 10_000), st.integers())
def test_a_wait_is_positive_and_never_over_its_ceiling(failures: int, seed: int) -> None:
    backoff = Backoff(base=0.1, cap=60.0, source=Random(seed))
    assert 0 < backoff.delay(failures) <= backoff.ceiling(failures) <= 60.0


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base=0.1, cap=1.0)
    assert [backoff.ceiling(failures) for failures in (1, 2, 3, 4, 5, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(st.floats(0, 1e6), st.floats(0, 1), st.integers())
def test_jitter_stays_within_its_share(seconds: float, share: float, seed: int) -> None:
    assert abs(jittered(seconds, share, Random(seed)) - seconds) <= seconds * share * (1 + 1e-9) + 1e-9
