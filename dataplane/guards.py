"""What tells callers apart in one worker: issuers, auth providers and the gate, made from the settings.

Called by `dataplane.app`: `make` before anything serves, so that settings that are not safe end the start, and
`Guards.refresh` once there is a loop.
"""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from dataplane.gateway import authenticating, deciding, identifying
from dataplane.sdk.providing import AuthProvider
from dataplane.settings import Settings
from schemas.kits.clocks import Clock
from schemas.kits.tasks import Tasks
from schemas.kits.tokens import issuing
from schemas.kits.tokens.verifying import Verifier
from schemas.meta import Json


@dataclass(frozen=True, slots=True)
class Guards:
    """What tells callers apart."""

    verifier: Verifier
    providers: Mapping[str, AuthProvider]
    gate: deciding.Gate

    def refresh(self, clock: Clock) -> Tasks:
        """Keep the keys of every issuer and provider fresh, until the tasks are stopped."""
        tasks = Tasks(clock)
        for name, issuer in self.verifier.issuers.items():
            tasks.supervise(issuer.keys.run, f"keys of {name}")
        for scheme, provider in self.providers.items():
            tasks.supervise(provider.run, f"auth provider {scheme}")
        return tasks

    def wire(self) -> Json:
        """What ``/modules/system/info`` shows."""
        return {**self.verifier.wire(), "providers": sorted(self.providers), "cache": self.gate.wire()}


def make(settings: Settings, clock: Clock, door: socket.socket) -> Guards:
    """The guards that the settings ask for; SettingsRefused if they are not safe behind this door."""
    if settings.auth_development and not ipaddress.ip_address(door.getsockname()[0]).is_loopback:
        raise issuing.SettingsRefused(
            "MODPLANE_AUTH_DEVELOPMENT is set, and the door is open to other machines: name an issuer of your own"
        )
    verifier = issuing.verifier(settings, issuing.Ground(clock, settings.key_sets, settings.data_dir.absolute()))
    found = identifying.load(settings.auth_providers)
    authenticator = authenticating.Authenticator(verifier, found)
    gate = deciding.Gate(authenticator, clock, ttl=settings.auth_cache_ttl, tokens=settings.auth_cache_tokens)
    return Guards(verifier, found, gate)
