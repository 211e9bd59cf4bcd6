"""Exception handlers and lifespans that a module brings along, plain and through the gateway."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.conformance.behaviours.overriding import Overriding
from tests.doubles.twins import Twins, twins

FOLDER = Path(__file__).parent / "behaviours"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Starlette, for lifespans that are bare generators
        with twins(Overriding, FOLDER, tmp_path_factory.mktemp("code")) as running:
            yield running


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/http/403", {}),
        ("GET", "/http/404", {}),
        ("GET", "/http/x", {}),
        ("POST", "/numbers", {"json": [1, 2]}),
        ("POST", "/numbers", {"json": ["x", 1, "y"]}),
        ("POST", "/numbers", {}),
        ("GET", "/crash", {}),
        ("GET", "/part/state", {}),
    ],
)
def test_a_modules_own_handlers_answer(both: Twins, method: str, path: str, more: dict[str, Any]) -> None:
    plain, hosted = both.ask(method, path, **more)
    assert hosted == plain
