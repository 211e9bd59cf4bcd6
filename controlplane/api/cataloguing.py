"""What there is to ask for: Kubernetes discovery documents and the version, all from the catalogue of kinds.

Pure.  Source: Kubernetes API discovery (the unaggregated form, which every client falls back to).  Served by the
routes of `controlplane.api.apps`; read by `kubectl api-resources` and by every client before its first call.
"""

import platform
from typing import Final

from schemas import kinds, names
from schemas.meta import Json

KUBERNETES_MINOR: Final = 34
"""The Kubernetes minor version whose wire format this server follows; clients warn when theirs is far from it."""

READ_VERBS: Final = ["get", "list", "watch"]
WRITE_VERBS: Final = ["create", "delete", "get", "list", "patch", "update", "watch"]


def core() -> Json:
    """``/api``: the legacy group has nothing here."""
    return {"kind": "APIVersions", "versions": [], "serverAddressByClientCIDRs": []}


def groups() -> Json:
    """``/apis``."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}


def group() -> Json:
    """``/apis/modplane.dev``."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group()}


def resources() -> Json:
    """``/apis/modplane.dev/v1``."""
    listed: list[Json] = []
    for kind in kinds.KINDS:
        listed.append(
            {
                "name": kind.plural,
                "singularName": kind.singular,
                "shortNames": list(kind.short),
                "namespaced": False,
                "kind": kind.name,
                "verbs": WRITE_VERBS if kind.writable else READ_VERBS,
                "categories": ["all", "modplane"] if kind.name != "ModuleEvent" else ["modplane"],
            }
        )
        if kind.has_status:
            listed.append(
                {
                    "name": f"{kind.plural}/status",
                    "singularName": "",
                    "namespaced": False,
                    "kind": kind.name,
                    "verbs": ["get"],
                }
            )
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": names.API_VERSION, "resources": listed}


def version(release: str) -> Json:
    """``/version``: ours, in the form that Kubernetes clients parse."""
    return {
        "major": "1",
        "minor": str(KUBERNETES_MINOR),
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+modplane.{release}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def _group() -> Json:
    served = {"groupVersion": names.API_VERSION, "version": names.VERSION}
    return {"name": names.GROUP, "versions": [served], "preferredVersion": served}
