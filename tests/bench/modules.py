"""Modules for benches: ten open routes each, plain (nothing for pydantic to do) or annotated with what they return."""

import json
from pathlib import Path

SOURCE = """from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth


class Plain(BaseModuleRouter):
    @classmethod
    def create_instance(cls) -> "Plain":
        return cls(ModuleMetadata(module_id="{id}", name="{id}", version="1.0.0", module_type=ModuleType.CORE))

    def register_routes(self, router: APIRouter) -> None:
{routes}
"""

ROUTE = """        @router.get("/r{number}")
        @require_module_auth(auth_level="NONE")
        async def r{number}(){returns}:
            return {{"say": "{say}"}}
"""


def write(folder: Path, module_id: str, say: str = "hello", *, annotated: bool = False, routes: int = 10) -> None:
    """Write the source of one module below ``folder``."""
    returns = " -> dict[str, str]" if annotated else ""
    written = "\n".join(ROUTE.format(number=number, say=say, returns=returns) for number in range(routes))
    (folder / f"{module_id}.py").write_text(SOURCE.format(id=module_id, routes=written))


def manifest(module_id: str, **spec: object) -> dict[str, object]:
    """The manifest of one module."""
    return {
        "apiVersion": "modplane.dev/v1",
        "kind": "Module",
        "metadata": {"name": module_id.replace("_", "-")},
        "spec": {"entryPoint": f"{module_id}:Plain", "version": "1.0.0", **spec},
    }


def text(*manifests: dict[str, object]) -> bytes:
    """A body for the list form of apply."""
    return json.dumps({"items": list(manifests)}).encode()
