"""What module authors import, and nothing else: a router class, its metadata, and declarations of who may call.

Owns: the words of the seed that authors write.  Imports: FastAPI's router, schemas.
Comes from: modules' code.  Goes to: `dataplane.runtime`, which reads what is declared here.  Never: enforces anything.
"""

from dataplane.sdk.declaring import require_module_auth
from dataplane.sdk.metadata import ModuleMetadata, ModuleRouteConfig
from dataplane.sdk.routers import BaseModuleRouter, IModuleRouter
from schemas.module import ModuleType
from schemas.policies import AuthLevel

__all__ = [
    "AuthLevel",
    "BaseModuleRouter",
    "IModuleRouter",
    "ModuleMetadata",
    "ModuleRouteConfig",
    "ModuleType",
    "require_module_auth",
]
