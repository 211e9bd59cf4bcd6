"""The HTTP client of the command line: httpx without a command of its own.

httpx brings one along and imports it whenever somebody imports httpx and rich can be found: some forty milliseconds
of each of our commands, for what none of them uses.  httpx goes without if the import fails, and None in
``sys.modules`` is how Python is told that it shall.  Afterwards everything is as it was.
"""

import sys
from typing import Final

__all__ = ["httpx"]

_ITS_COMMAND: Final = "httpx._main"

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules[_ITS_COMMAND] = None  # type: ignore[assignment]
    try:
        import httpx
    finally:
        del sys.modules[_ITS_COMMAND]
