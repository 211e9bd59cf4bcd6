"""A manifest from what a module says of itself.  Pure."""

from schemas import names
from schemas.inspections import CandidateReport
from schemas.meta import Json
from schemas.policies import AuthLevel


def manifest(candidate: CandidateReport, path: str) -> Json:
    """The Module manifest of a candidate found in the source at ``path``; only what it says, no defaults.

    Its permissions go to the catalogue.  Its flags go to the floor, at level NONE, so that they ask for nothing else.
    """
    routing: Json = {"apiVersion": candidate.api_version}
    if candidate.namespace:
        routing["namespace"] = candidate.namespace
    spec: Json = {
        "entryPoint": candidate.entry_point,
        "source": {"path": path},
        "version": candidate.version,
        "type": candidate.type,
        "routing": routing,
    }
    optional: Json = {
        "displayName": candidate.name,
        "description": candidate.description,
        "author": candidate.author,
        "permissions": candidate.permissions,
        "dependencies": candidate.dependencies,
        "config": candidate.default_config,
        "configSchema": candidate.config_schema,
    }
    spec |= {field: value for field, value in optional.items() if value}
    if candidate.feature_flags:
        spec["auth"] = {"level": AuthLevel.NONE.value, "featureFlags": candidate.feature_flags}
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Module",
        "metadata": {"name": names.object_name(candidate.module_id)},
        "spec": spec,
    }


def double(candidate: CandidateReport, first: str) -> str:
    """What is wrong with a candidate whose module id another one, with the entry point ``first``, has too."""
    return (
        f"{candidate.entry_point} says module_id {candidate.module_id!r}, which {first} has already; "
        "give one of them another module_id"
    )
