"""The auth providers that an operator turned on, made from what installed packages offer.

Called by `dataplane.app` at the start; what is wrong then ends the start, since a worker without a provider that was
asked for would turn its callers away.
"""

import json
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from dataplane.gateway.authenticating import BEARER
from dataplane.sdk.providing import GROUP, AuthProvider
from schemas.kits.tokens.issuing import SettingsRefused


def load(setting: str, offered: Callable[[str], Any] | None = None) -> dict[str, AuthProvider]:
    """The providers by scheme; ``setting`` is a JSON object of their names and options.  SettingsRefused."""
    if not setting:
        return {}
    try:
        wanted = json.loads(setting)
    except ValueError as error:
        raise SettingsRefused(f"MODPLANE_AUTH_PROVIDERS is not JSON: {error}") from None
    if not isinstance(wanted, dict) or not all(isinstance(options, dict) for options in wanted.values()):
        raise SettingsRefused(
            'MODPLANE_AUTH_PROVIDERS is not an object of objects; write {"api-keys": {"file": "..."}}'
        )
    found: dict[str, AuthProvider] = {}
    for name, options in wanted.items():
        provider = _made(name, options, offered or _installed)
        if provider.scheme.encode() == BEARER or provider.scheme in found or not provider.scheme.isalnum():
            raise SettingsRefused(
                f"auth provider {name!r} has the scheme {provider.scheme!r}, which is taken or no word"
            )
        found[provider.scheme] = provider
    return found


def _made(name: str, options: Mapping[str, Any], offered: Callable[[str], Any]) -> AuthProvider:
    factory = offered(name)
    try:
        provider: AuthProvider = factory(options)
    except Exception as error:
        raise SettingsRefused(f"auth provider {name!r} does not start: {error}") from error
    return provider


def _installed(name: str) -> Any:
    entries = metadata.entry_points(group=GROUP)
    if name not in entries.names:
        offered = ", ".join(sorted(entries.names)) or "none"
        raise SettingsRefused(f"no installed package offers the auth provider {name!r}; there are: {offered}")
    return entries[name].load()
