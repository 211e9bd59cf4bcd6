"""JSON texts, quickly: by orjson wherever it says the same as the standard library does.

Always: `quick` gives what ``json.dumps(value, separators=(",", ":"), ensure_ascii=False)`` gives, or None; the one
difference is in how a float's exponent is spelled (``1e16``, not ``1e+16``).  None is for what orjson refuses or would
change: NaN and infinities (it writes null), integers beyond 64 bits, half surrogate pairs, keys that are no strings,
dates.  Then the caller asks the standard library, which answers or raises as ever.
"""

from typing import Any, Final

import orjson

_PLAIN: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def quick(value: Any, *, nulls: bool = False, ordered: bool = False) -> bytes | None:
    """``value`` as compact JSON; None: leave it to the standard library.

    ``nulls``: no number in it is NaN or infinite, so that a null is one; ``ordered``: keys sorted by code point.
    """
    try:
        data = orjson.dumps(value, option=_PLAIN | orjson.OPT_SORT_KEYS if ordered else _PLAIN)
    except TypeError:
        return None
    return data if nulls or b"null" not in data else None
