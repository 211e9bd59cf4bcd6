"""Whether a write changes anything at all.  Called by `controlplane.admission.owning`."""

from typing import Any


def same(old: Any, new: Any) -> bool:
    """Whether two JSON values are equal; unlike ``==``, true and 1 differ."""
    if old is new:
        return True
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(same(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    return isinstance(old, bool) is isinstance(new, bool) and bool(old == new)
