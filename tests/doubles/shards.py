"""Runs of one test over many seeds or shards: a few always, the rest in `make test-all`."""

from typing import Any

import pytest


def shards(count: int, *, fast: int = 1) -> list[Any]:
    """0 to ``count`` - 1 as parameters, those from ``fast`` on marked slow."""
    return [number if number < fast else pytest.param(number, marks=pytest.mark.slow) for number in range(count)]
