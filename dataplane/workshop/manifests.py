"""Module manifests as an author keeps them, and the manifest that a module's own metadata stands for.

Pure but for `read`.  Admission's full word on a manifest is the control plane's (``modplane validate``); here it only
has to be readable.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dataplane.errors import LoadFailed
from schemas import names, policies
from schemas.inspections import CandidateReport, InspectionReport
from schemas.meta import Json
from schemas.module import DesiredModule, DesiredRoute, ModuleSpec
from schemas.policies import AuthLevel


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is asked for one module."""

    name: str
    spec: ModuleSpec
    file: str = ""
    """Where it is written; empty if derived from the code."""

    @property
    def top(self) -> str:
        """The name of its source."""
        return self.spec.source_path().rsplit("/", 1)[-1]


def read(file: Path) -> list[Manifest]:
    """The Modules of a file; LoadFailed (``ManifestInvalid``) with ``file:line`` if it cannot be read."""
    try:
        documents = list(yaml.safe_load_all(file.read_bytes()))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise LoadFailed("ManifestInvalid", f"{where}: {getattr(error, 'problem', None) or error}") from error
    except OSError as error:
        raise LoadFailed("ManifestInvalid", f"{file}: cannot be read: {error.strerror}") from error
    return [_manifest(file, each) for each in documents if isinstance(each, dict) and each.get("kind") == "Module"]


def _manifest(file: Path, document: Json) -> Manifest:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise LoadFailed("ManifestInvalid", f"{file}: /metadata/name: is missing; name the module")
    try:
        spec = ModuleSpec.model_validate(document.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "/".join(str(part) for part in ("", "spec", *first["loc"]))
        raise LoadFailed("ManifestInvalid", f"{file}: {pointer}: {first['msg']}") from error
    return Manifest(names.object_name(name), spec, str(file))


def derived(candidate: CandidateReport, path: str) -> Manifest:
    """What discovery makes of a module without a manifest."""
    spec: dict[str, Any] = {
        "entryPoint": candidate.entry_point,
        "source": {"path": path},
        "version": candidate.version,
        "type": candidate.type,
        "routing": {"apiVersion": candidate.api_version, "namespace": candidate.namespace},
        "displayName": candidate.name,
        "description": candidate.description,
        "author": candidate.author,
        "permissions": candidate.permissions,
        "dependencies": candidate.dependencies,
        "config": candidate.default_config,
        "configSchema": candidate.config_schema,
    }
    if candidate.feature_flags:
        spec["auth"] = {"level": AuthLevel.NONE, "featureFlags": candidate.feature_flags}
    try:
        return Manifest(names.object_name(candidate.module_id), ModuleSpec.model_validate(spec))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LoadFailed("MetadataInvalid", f"{candidate.entry_point}: {where}: {first['msg']}") from error


def desired(manifest: Manifest, digest: str, report: InspectionReport, *, guarded: bool) -> DesiredModule:
    """What a worker would be told to serve; not ``guarded``: anybody may call anything."""
    spec = manifest.spec
    return DesiredModule(
        entry_point=spec.entry_point,
        digest=digest,
        source_path=manifest.top,
        version=spec.version,
        display_name=spec.display_name,
        type=str(spec.type),
        stage=str(spec.stage),
        api_version=spec.routing.api_version,
        namespace=spec.namespace(manifest.name),
        routes=[
            DesiredRoute(
                methods=sorted({method.upper() for method in route.methods}),
                path=route.path,
                policy=policies.conjoin(spec.auth, route.auth) if guarded else policies.OPEN,
            )
            for route in report.routes
        ],
        tenancy=spec.tenancy,
        config=spec.config,
        health=spec.health,
        limits=spec.limits,
        worker_selector=spec.placement.worker_selector,
        loading=spec.loading,
    )
