"""Every setting of a worker: its unit, its default and why.

A flag wins over the environment (``MODPLANE_…``), which wins over the file ``modplane.env`` in the working folder,
which wins over the default.  Read once, by `dataplane.app`, and handed down: no other room looks at the environment.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from schemas import names
from schemas.kits.options import Port
from schemas.kits.options import load as load_options
from schemas.kits.tokens.issuing import TokenOptions

WorkerId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]

_SHORT = {"worker_id": "--id", "worker_labels": "--labels"}


class Settings(TokenOptions):
    """What an operator may set."""

    auth_providers: Annotated[str, StringConstraints(max_length=65_536)] = ""
    """Who else may say who calls: a JSON object of provider names and their options, such as
    ``{"api-keys": {"file": "/etc/modplane/keys.json"}}``.  Default none; see the entry-point group
    ``modplane.auth_providers``."""

    worker_id: WorkerId = "w0"
    """Name of this worker's slot, a DNS label: the same after a restart, another for each worker.  Default ``w0``,
    the first slot of ``modplane up``."""

    worker_labels: str = ""
    """Labels that ``spec.placement.workerSelector`` looks at, as ``zone=a,disk=fast``.  Default none: a module
    without selector is served by every worker."""

    replaces: str = ""
    """Boot id of the process that serves this slot until this one does.  Default none; ``modplane up`` sets it when it
    replaces a worker, so that the two are not taken for one."""

    worker_header: bool = True
    """Whether answers carry ``x-modplane-worker: ID/BOOT``.  Default true: it tells which process answered."""

    nats_url: str = "nats://127.0.0.1:4222"
    """Where NATS with JetStream is.  Default: NATS's own port on this machine; ``modplane up`` sets it."""

    nats_key_file: str = ""
    """File with the nkey seed that proves to NATS which worker this is.  Default none: connect without; ``modplane
    up`` makes one for each worker."""

    data_dir: Path = Path(".modplane")
    """Folder with the packed code (``code/``), the same as the control plane's on this machine, and with the last good
    state of each worker slot (``lkg/<worker id>.db``).  Default ``.modplane`` in the working folder."""

    trusted_keys_file: str = ""
    """JSON Web Key Set with the Ed25519 keys whose signatures under desired state are believed; read again when an
    unknown key signs.  Default ``DATA_DIR/trusted-keys.json``, which the control plane writes.  Without it nothing is
    believed."""

    secrets_dir: Path | None = None
    """Folder of files whose names are those of secrets and whose text is theirs: ``secret://api-key`` is ``api-key``
    in it.  Default none: secrets are looked for in the environment only (``MODPLANE_SECRET_API_KEY``), which comes
    first anyway."""

    audit_spool_bytes: Annotated[int, Field(ge=65_536, le=1 << 40)] = 64 * 1024 * 1024
    """How much of the audit trail waits in ``DATA_DIR/audit/<worker id>`` while NATS does not take it.  Default 64 MiB,
    some 150,000 decisions.  Beyond it routes of level ADMIN answer 503, and what others decide is counted as a gap."""

    audit_open: bool = False
    """Whether calls of routes that anybody may call (level NONE) are in the audit trail too.  Default false: nothing is
    decided about their callers, and they may be many."""

    listen_fd: int = -1
    """File descriptor of a listening socket that is shared with other workers; -1 (the default): open one of
    ``DATA_HOST`` and ``DATA_PORT``.  ``modplane up`` hands one down, so that a restart refuses no connection."""

    data_host: str = "127.0.0.1"
    """Address the data plane listens on.  Default loopback: other machines come through a proxy that you choose."""

    data_port: Port = 8000
    """TCP port of the data plane; 0 picks a free one."""

    keep_alive_seconds: Annotated[float, Field(ge=1, le=600)] = 5.0
    """How long an idle connection is kept.  Default 5 s: a draining worker waits so long for idle clients."""

    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """How long a draining worker waits for busy requests.  Default 30 s, the usual limit of a request."""

    threads: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many ``def`` handlers run at once on this worker.  Default 100: all modules share
    them, and the framework's 40 are soon taken."""

    memory_limit_bytes: Annotated[int, Field(ge=0)] = 0
    """Resident memory above which the worker asks its supervisor for a successor, which then takes over without a
    failed request.  Default 0: never.  Useful where modules bring C extensions, which Python cannot unload."""

    loop_held_seconds: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """How long code may hold the serving loop, during which nobody else is served, before it is told with its module
    and place.  Default 1 s: far above what a good handler takes between two awaits."""

    loop_lost_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """How long the serving loop may be held before the worker ends, so that its supervisor starts another.  Default
    30 s, the usual limit of a request."""

    @field_validator("worker_labels")
    @classmethod
    def _pairs(cls, text: str) -> str:
        for pair in filter(None, text.split(",")):
            if not pair.partition("=")[0].strip() or "=" not in pair:
                raise ValueError(f"{pair!r} is not key=value; write labels as zone=a,disk=fast")
        return text

    @property
    def labels(self) -> dict[str, str]:
        """The worker's labels by key."""
        pairs = (pair.partition("=") for pair in filter(None, self.worker_labels.split(",")))
        return {key.strip(): value.strip() for key, _, value in pairs}

    @property
    def trusted_keys(self) -> Path:
        """The trusted keys' file, with the default filled in."""
        chosen = Path(self.trusted_keys_file) if self.trusted_keys_file else self.data_dir / names.TRUSTED_KEYS
        return chosen.absolute()

    @property
    def code_root(self) -> Path:
        """Where packed code lies."""
        return self.data_dir.absolute() / "code"

    @property
    def key_sets(self) -> Path:
        """Where the last good key sets of issuers lie."""
        return self.data_dir.absolute() / "auth" / "issuers"

    @property
    def audit_folder(self) -> Path:
        """Where this slot's part of the audit trail waits."""
        return self.data_dir.absolute() / "audit" / self.worker_id

    @property
    def last_good(self) -> Path:
        """The file with this worker's last good state."""
        return self.data_dir.absolute() / "lkg" / f"{self.worker_id}.db"


def load(arguments: Sequence[str] = (), *, program: str = "modplane worker") -> Settings:
    """The settings of this process; ends it with exit code 2 and a message for a flag or value that makes no sense."""
    return load_options(Settings, arguments, program=program, description="Run one data-plane worker.", short=_SHORT)
