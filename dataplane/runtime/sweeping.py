"""How often Python looks through everything that there is for garbage: the more modules are loaded, the more seldom.

A full collection holds every thread for as long as it takes to visit all objects, half a second where a thousand
modules are; what it finds is what unloaded code left behind (instances go without it).  Left alone, Python begins one
whenever a quarter has come to what there is, eight while a thousand modules load.  So the number of new objects that
it takes grows with those that are loaded: never fewer than Python's own default, about half as many as there are.
Nothing is kept from being collected; that is for the host's own objects only (`dataplane.app`).

Measured, a thousand modules of ten plain routes: 2.4 s in eight full collections before, 0.6 s in four.

The middle generation, which holds every thread too and the serving loop now and then, is looked through twice as
often as Python does it, so that half as much is there: 1.5 ms became 0.9 beside small modules, for the same sum.

While a worker's door is closed nearly all that is made stays, so that looking through it finds nothing: it is looked
through once, at the end (`held`), which also keeps the first requests from waiting for that.

`pace` is called by `dataplane.gateway.hosting` whenever a module was published or went, `held` by `dataplane.app`.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_MODULES: Final = 18
"""Modules whose objects (800 for ten plain routes) make two collections of the middle generation (700 × 10)."""
_USUAL: Final = gc.get_threshold()
_MIDDLE: Final = _USUAL[1] // 2
"""Young collections that make a middle one."""
_HELD: Final = (1_000_000, _USUAL[1], _USUAL[2])
"""While collections are held: what a thousand modules make; beyond that garbage may be worth its while."""

_holding: Final[list[int]] = []
"""While collections are held: how many modules there are by now."""


@contextmanager
def held() -> Iterator[None]:
    """While inside, as good as nothing is looked through; at its end everything is, once."""
    _holding.append(0)
    gc.set_threshold(*_HELD)
    try:
        yield
        gc.collect()
    finally:
        pace(_holding.pop())


def pace(modules: int) -> None:
    """From now on this process has so many modules."""
    if _holding:
        _holding[-1] = modules
        return
    full = max(_USUAL[2], modules // _MODULES)
    gc.set_threshold(_USUAL[0], _MIDDLE, full * _USUAL[1] // _MIDDLE)
