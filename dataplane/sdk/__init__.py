"""What module authors import, and nothing else: a router class, its metadata, and declarations of who may call.

Owns: the words of the seed that authors write.  Imports: FastAPI's router, schemas.
Comes from: modules' code.  Goes to: `dataplane.runtime`, which reads what is declared here.  Never: enforces anything.
"""

from dataplane.sdk.calling import CurrentPrincipal, current_principal, optional_principal
from dataplane.sdk.checking import HealthStatus
from dataplane.sdk.declaring import require_module_auth
from dataplane.sdk.metadata import ModuleMetadata, ModuleRouteConfig
from dataplane.sdk.providing import AuthProvider
from dataplane.sdk.routers import BaseModuleRouter, IModuleRouter
from dataplane.sdk.switching import (
    OrganisationConfiguration,
    feature_flag,
    feature_value,
    organisation_configuration,
)
from dataplane.sdk.tracing import outgoing_call, span, trace_headers, trace_id
from dataplane.telemetry.customs import ModuleMetrics
from schemas.module import ModuleType
from schemas.policies import AuthLevel
from schemas.principals import Principal

__all__ = [
    "AuthLevel",
    "AuthProvider",
    "BaseModuleRouter",
    "CurrentPrincipal",
    "HealthStatus",
    "IModuleRouter",
    "ModuleMetadata",
    "ModuleMetrics",
    "ModuleRouteConfig",
    "ModuleType",
    "OrganisationConfiguration",
    "Principal",
    "current_principal",
    "feature_flag",
    "feature_value",
    "optional_principal",
    "organisation_configuration",
    "outgoing_call",
    "require_module_auth",
    "span",
    "trace_headers",
    "trace_id",
]
