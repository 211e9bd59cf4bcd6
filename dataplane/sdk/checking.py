"""What a module says of itself when it is asked how it is: `BaseModuleRouter.check_health` returns it.

    async def check_health(self) -> HealthStatus:
        free = await self.pool.free()
        return HealthStatus(free > 0, "no connection is free", {"free": free})

The message counts only when it is not well.  Read by `dataplane.runtime.asking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """Whether a module can do its work, and what it knows about that."""

    healthy: bool
    message: str = ""
    """For its operator: what is missing, and what to do."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values, shown on the worker's own page ``/modules/system/info``."""
