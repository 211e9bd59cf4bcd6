"""My Module: the smallest module there is."""

from fastapi import APIRouter

from dataplane.sdk import BaseModuleRouter, ModuleMetadata, require_module_auth


class MyModule(BaseModuleRouter):
    """One open route."""

    metadata = ModuleMetadata(module_id="my_module", name="My Module", version="1.0.0")

    def register_routes(self, router: APIRouter) -> None:
        """Anybody may say hello."""

        @router.get("/hello")
        @require_module_auth("NONE")
        async def hello(name: str = "world") -> dict[str, str]:
            return {"hello": name}
