"""What lets the user of `modplane up` in: an administrator's token, the server's certificate, and a kubeconfig of both.

Files in the data folder.  Token and kubeconfig are for their owner's eyes only; the token is signed with the
development key.  Token and certificate are valid for some days, made anew at each start and every day from then on.
Clients on the same data folder find all of it in ``endpoints.json``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controlplane.cli import exits
from schemas.kits.clocks import Clock, SystemClock

_VALID_SECONDS: Final = 7 * 86_400.0
_RENEW_SECONDS: Final = 86_400.0
_LOOK_SECONDS: Final = 60.0
"""Between two looks at the wall clock, which goes on while the machine sleeps; timers do not."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The files of one data folder."""

    data_dir: Path
    clock: Clock = field(default_factory=SystemClock)

    @property
    def token_file(self) -> Path:
        """The administrator's token."""
        return self.data_dir / "admin.token"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl."""
        return self.data_dir / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        """The certificate of the local authority."""
        return self._tls / "ca.pem"

    @property
    def server_file(self) -> Path:
        """Key and certificate of the server."""
        return self._tls / "server.pem"

    @property
    def _tls(self) -> Path:
        return self.data_dir / "tls"

    def prepare(self, url: str) -> list[str]:
        """Make what the first start needs, and the rest anew; what a person should know of it.

        Raises `exits.Exit` with code 3 when a file cannot be written or one that is there is damaged.
        """
        from controlplane.cli import authority  # late: most commands need no cryptography
        from schemas.kits.tokens import development

        try:
            development.ensure(self.data_dir)
            made = authority.Authority(self._tls).ensure(self.clock.now())
            self.renew(url)
        except authority.AuthorityUnusableError as error:
            raise exits.refused(error.message, hint=error.hint) from error
        except (OSError, ValueError) as error:
            raise exits.refused(f"cannot write the keys of {self.data_dir}: {error}") from error
        return [f"made a certificate authority for this machine: {self.ca_file}"] if made else []

    def renew(self, url: str) -> None:
        """Make token, certificate and kubeconfig anew; OSError or ValueError when there is no key or no room."""
        from controlplane.cli import authority, kubeconfigs
        from schemas.kits.signatures import place
        from schemas.kits.tokens import development

        authority.Authority(self._tls).issue(self.clock.now())
        caller = development.Caller("admin", roles=("admin",))
        token = development.sign(self.data_dir, caller, now=self.clock.now().timestamp(), seconds=_VALID_SECONDS)
        place(self.token_file, f"{token}\n".encode(), 0o600, replace=True)
        text = kubeconfigs.text(url, self.ca_file.read_bytes(), token)
        place(self.kubeconfig, text.encode(), 0o600, replace=True)

    async def keep(self, url: str, told: Callable[[str], None]) -> None:
        """Renew every day until cancelled; a day when that fails is told, and tried again every minute."""
        renewed, failing = self.clock.now(), False
        while True:
            await self.clock.sleep(_LOOK_SECONDS)
            if 0 <= (self.clock.now() - renewed).total_seconds() < _RENEW_SECONDS:
                continue
            try:
                self.renew(url)
            except (OSError, ValueError) as error:
                if not failing:
                    told(f"cannot renew the certificate and the token in {self.data_dir}: {error}")
                failing = True
            else:
                renewed, failing = self.clock.now(), False
