"""``python -m dataplane`` starts what its first argument names."""

import pytest

from dataplane import __main__ as program
from dataplane import app


@pytest.mark.parametrize("words", [["worker", "--id", "w1"], ["--id", "w1"]])
def test_a_worker_is_the_default(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "main", lambda arguments: 7 if arguments == ["--id", "w1"] else 0)
    assert program.main(words) == 7
