"""What a module says of itself; discovery makes a manifest of it where there is none.

Plain frozen data.  A manifest wins wherever it differs: metadata is only discovery's default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.module import ModuleType


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleRouteConfig:
    """The address of a module's routes: ``/api/v1/modules/{api_version}/{namespace}/…``."""

    api_version: str = "v1"
    """``v1``, ``v2`` or ``v3``."""
    namespace: str | None = None
    """Default: the module's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleMetadata:
    """A module's own words about itself."""

    module_id: str
    """``analytics_core`` and ``analytics-core`` are the same module."""
    name: str = ""
    """For people; default: the module id."""
    version: str = "0.0.0"
    """Semantic version (semver.org 2.0.0) of the module."""
    module_type: ModuleType | str = ModuleType.CORE
    description: str = ""
    author: str = ""
    permissions: Sequence[str] = ()
    """Catalogue of what the module's routes may ask for."""
    feature_flags: Sequence[str] = ()
    """Flags that must be on for every route: a floor."""
    dependencies: Sequence[str | Mapping[str, str]] = ()
    """Modules that have to serve first: names, or mappings with ``name`` and a ``version`` range."""
    config_schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of the configuration."""
    default_config: Mapping[str, Any] = field(default_factory=dict)
    routing: ModuleRouteConfig = ModuleRouteConfig()

    def __post_init__(self) -> None:
        if not isinstance(self.module_id, str) or not self.module_id:
            raise ValueError("module_id is missing: write the module's own name, such as module_id='analytics_core'")
        try:
            object.__setattr__(self, "module_type", ModuleType(self.module_type))
        except ValueError:
            allowed = ", ".join(kind.value for kind in ModuleType)
            raise ValueError(f"module_type={self.module_type!r} is not one of {allowed}") from None
        for words in ("permissions", "feature_flags", "dependencies"):
            if isinstance(getattr(self, words), str):
                raise ValueError(f"{words} is one string; write a list: {words}=[{getattr(self, words)!r}]")
