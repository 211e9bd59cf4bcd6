"""Every setting of the control plane: its unit, its default and why.

A flag wins over the environment (``MODPLANE_…``), which wins over the file ``modplane.env`` in the working
folder, which wins over the default.  Read once, by `controlplane.app`, and handed down: no other room looks at
the environment.  `tests/documents` holds ``docs/reference/settings.md`` to this list.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from controlplane.api.authorising import Role
from schemas.kits.options import Port
from schemas.kits.options import load as load_options
from schemas.kits.tokens.issuing import TokenOptions


class Settings(TokenOptions):
    """What an operator may set."""

    data_dir: Path = Path(".modplane")
    """Folder of everything that has to survive: database, packed code, NATS files.  Default ``.modplane`` in the
    working folder, so that a trial leaves nothing elsewhere.  Never share one folder between two machines."""

    database_url: str = ""
    """SQLAlchemy URL of the truth: ``sqlite:///FILE`` or ``postgresql+psycopg://…``.  Default: SQLite in
    ``DATA_DIR/modplane.db``, because one machine needs no server; PostgreSQL for more than one."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS with JetStream is.  Default: NATS's own port on this machine; ``modplane up`` sets it."""

    nats_key_file: str = ""
    """File with the nkey seed that proves to NATS who this is; the server must let it read and write ``modplane.>``,
    ``$JS.API.>`` and the desired bucket, write the bucket of audit checkpoints, and say ``$JS.ACK.MODPLANE_AUDIT.>``.
    Default none: connect without; ``modplane up`` makes one for each part."""

    modules_path: Path = Path("modules")
    """Folder that is scanned for modules and in which ``spec.source.path`` is looked up.  Default ``modules`` in
    the working folder; while a folder is not there, that is reported and nothing is deleted."""

    auto_discover: bool = True
    """Whether the modules path is scanned at start and watched from then on.  Default true: a folder of modules should
    just run.  Off, ``modplane discover`` scans on demand."""

    modules_poll_seconds: Annotated[float, Field(ge=0, le=3_600)] = 0.0
    """Seconds between two looks at the modules path, for network folders, whose changes the operating system does not
    tell.  Default 0: be told; where that fails, a look every 2 s takes its place."""

    signing_key_file: str = ""
    """PEM file with the Ed25519 key that signs desired state; made when it is not there.  Default
    ``DATA_DIR/signing-key.pem``.  Control planes over one database share one key; its public half is added to
    ``DATA_DIR/trusted-keys.json``, which workers read."""

    audit_max_bytes: Annotated[int, Field(ge=1_048_576, le=1 << 50)] = 1024 * 1024 * 1024
    """How large the audit trail in ``DATA_DIR/audit.db`` may become; then its oldest records go.  Default 1 GiB, some
    two million records."""

    audit_max_age_seconds: Annotated[float, Field(ge=60, le=3_153_600_000)] = 90 * 24 * 3600.0
    """How old audit records may become.  Default 90 days."""

    control_host: str = "127.0.0.1"
    """Address the API listens on.  Default loopback; one that other machines reach needs ``TLS_CERT_FILE``, because
    tokens travel."""

    control_anonymous: Literal["", "viewer", "editor", "admin"] = ""
    """What those may do here who bring no token: nothing (the default), or what this role may.  For trying things out
    without an issuer; refused where other machines can reach the API."""

    control_port: Port = 7400
    """TCP port of the API; 0 picks a free one."""

    tls_cert_file: Path | None = None
    """The API's certificate as PEM, followed by those between it and its authority; looked at every minute.  Default
    none: plain HTTP, on loopback only.  ``modplane up`` makes one.  kubectl sends tokens over TLS only."""

    tls_key_file: Path | None = None
    """The certificate's private key as PEM, without a passphrase.  Default: the key in ``TLS_CERT_FILE`` itself."""

    listen_fd: int = -1
    """File descriptor of a listening socket for the API; -1 (the default): open one of ``CONTROL_HOST`` and
    ``CONTROL_PORT``.  ``modplane up`` hands one down, so that a restart refuses no connection."""

    @property
    def anonymous(self) -> Role | None:
        """The role of callers without a token."""
        return Role[self.control_anonymous.upper()] if self.control_anonymous else None

    @property
    def signing_key(self) -> Path:
        """The signing key's file, with the default filled in."""
        return Path(self.signing_key_file) if self.signing_key_file else self.data_dir / "signing-key.pem"

    @property
    def database(self) -> str:
        """The database URL, with the default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'modplane.db').absolute()}"


def load(arguments: Sequence[str] = (), *, program: str = "modplane controlplane") -> Settings:
    """The settings of this process; ends it with exit code 2 and a message for a flag or value that makes no sense."""
    return load_options(Settings, arguments, program=program, description="Run one control plane.")
