"""A kubeconfig: one server, the certificate authority to trust, and a token, all in one file that can be copied.

Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1.  Written by `controlplane.cli.admitting`, read by
kubectl and everything else that speaks the Kubernetes API.
"""

import base64
from typing import Final

import yaml

_NAME: Final = "modplane"
_USER: Final = "modplane-admin"


def text(url: str, authority: bytes, token: str) -> str:
    """The file for the server at ``url``, whose certificate ``authority`` (PEM) signed."""
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": _NAME,
        "clusters": [{"name": _NAME, "cluster": cluster}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _USER}}],
        "users": [{"name": _USER, "user": {"token": token}}],
    }
    return yaml.safe_dump(document, sort_keys=False)
