"""What differs between two documents, as a list that people and programs read.

Always holds: equal documents give an empty list; the order is that of the pointers.  Called by dry runs,
``modplane diff`` and the write path, which asks whether a write changes anything at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from controlplane.admission import pointers


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two documents differ; `pointers.MISSING` stands where one has nothing."""

    pointer: str
    old: Any
    new: Any

    @property
    def verb(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.old is pointers.MISSING:
            return "added"
        return "removed" if self.new is pointers.MISSING else "changed"


def differences(old: Any, new: Any) -> list[Difference]:
    """Every leaf that differs; a whole value where only one side has one. Lists are compared place by place."""
    return list(_walk("", old, new))


def same(old: Any, new: Any) -> bool:
    """Whether two JSON values are equal; unlike ``==``, true and 1 differ."""
    if old is new:
        return True
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(same(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    return isinstance(old, bool) is isinstance(new, bool) and bool(old == new)


def _walk(pointer: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            step = f"{pointer}/{pointers.escape(key)}"
            yield from _walk(step, old.get(key, pointers.MISSING), new.get(key, pointers.MISSING))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else pointers.MISSING
            after = new[index] if index < len(new) else pointers.MISSING
            yield from _walk(f"{pointer}/{index}", before, after)
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield Difference(pointer, old, new)
