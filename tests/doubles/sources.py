"""Module sources written to a folder, as an author or the code store would hold them."""

import textwrap
from pathlib import Path

from schemas import digests
from schemas.module import DesiredModule, DesiredRoute
from schemas.policies import OPEN

EXAMPLE = """
from fastapi import APIRouter
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, ModuleType, require_module_auth

class AnalyticsCoreModule(BaseModuleRouter):
    @classmethod
    def create_instance(cls) -> "AnalyticsCoreModule":
        return cls(ModuleMetadata(module_id="analytics_core", name="Analytics Core", version="1.0.0",
                                  module_type=ModuleType.ANALYTICS, permissions=["read_analytics"]))

    def register_routes(self, router: APIRouter) -> None:
        @router.get("/dashboard/overview")
        @require_module_auth(auth_level="PERMISSION", permissions=["read_analytics"])
        async def overview() -> dict: ...
"""
"""The example of the architecture page, word for word."""

SMALL = """
from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth

class Small(BaseModuleRouter):
    metadata = ModuleMetadata(module_id="small", version="1.0.0")

    def register_routes(self, router):
        @router.get("/hello")
        @require_module_auth("NONE")
        async def hello():
            return {"hello": "world", "config": dict(self.config)}
"""
"""A single-file module with one open route."""


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write ``files`` (relative path → text) below ``folder``."""
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text))
    return folder


def store(code_root: Path, files: dict[str, str]) -> str:
    """Write ``files`` as one packed source below ``code_root``; its digest."""
    contents = [(name, textwrap.dedent(text).encode()) for name, text in files.items()]
    digest = digests.source_digest(contents)
    write(code_root / digests.folder_name(digest), files)
    return digest


def desired(digest: str, entry_point: str, routes: list[tuple[str, str]], **more: object) -> DesiredModule:
    """A desired module whose routes, (methods separated by ``|``, path), are all open."""
    top = entry_point.split(":", maxsplit=1)[0].split(".", maxsplit=1)[0]
    return DesiredModule.model_validate(
        {
            "entry_point": entry_point,
            "digest": digest,
            "source_path": top,
            "namespace": top.replace("_", "-"),
            "routes": [DesiredRoute(methods=methods.split("|"), path=path, policy=OPEN) for methods, path in routes],
            **more,
        }
    )
