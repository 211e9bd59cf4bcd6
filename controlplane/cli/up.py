"""``modplane up``: the whole system on this machine, supervised, until interrupted.

Checks what can go wrong first (folder, second `up`, ports, NATS program), each with a message that says what to do;
then `controlplane.cli.supervising` runs the parts.
"""

import asyncio
import contextlib
import socket
from pathlib import Path

import click

from controlplane.cli import children, endpoints, exits, folders, options, ports, supervising

_PORT = click.IntRange(0, 65_535)


@click.command(
    "up",
    short_help="Run the whole system on this machine",
    cls=options.Verb,
    examples=(
        "modplane up --modules deploy/examples",
        "modplane up --workers 4 --data-dir /var/lib/modplane",
        "modplane up --control-port 0 --data-port 0 --nats-port 0",
    ),
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    envvar="MODPLANE_WORKERS",
    default=2,
    show_default=True,
    help="Worker processes; two, so that one may restart unnoticed.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="MODPLANE_DATA_DIR",
    default=endpoints.DATA_DIR,
    show_default=True,
    help="Folder of everything that has to survive: database, code, NATS files, logs.",
)
@click.option(
    "--modules",
    type=click.Path(path_type=Path),
    envvar="MODPLANE_MODULES_PATH",
    default="modules",
    show_default=True,
    help="Folder of modules and manifests.",
)
@click.option(
    "--control-port",
    type=_PORT,
    envvar="MODPLANE_CONTROL_PORT",
    default=7400,
    show_default=True,
    help="Port of the control plane; 0 picks a free one.",
)
@click.option(
    "--data-port",
    type=_PORT,
    envvar="MODPLANE_DATA_PORT",
    default=8000,
    show_default=True,
    help="Port of the data plane; 0 picks a free one.",
)
@click.option(
    "--nats-port",
    type=_PORT,
    envvar="MODPLANE_NATS_PORT",
    default=4222,
    show_default=True,
    help="Port of the NATS server; 0 picks a free one.",
)
def command(workers: int, data_dir: Path, modules: Path, control_port: int, data_port: int, nats_port: int) -> int:
    """Run NATS, the control plane and the workers on this machine, until interrupted.

    When ready it prints the addresses and what to try, and writes them to endpoints.json in the data folder.  A part
    that dies is started again; nothing survives this command.
    """
    folder = folders.take(data_dir)
    try:
        with ports.listen(control_port, "--control-port") as api, ports.listen(data_port, "--data-port") as door:
            nats = ports.free(nats_port, "--nats-port")
            system = _system(folder, api, door, nats=nats, modules=modules.absolute(), workers=workers)
            return asyncio.run(_run(system, modules))
    finally:
        folder.release()


def _system(
    folder: folders.DataFolder, api: socket.socket, door: socket.socket, *, nats: int, modules: Path, workers: int
) -> supervising.System:
    from schemas.kits import natsserver  # late: only `up` runs a server

    nats_url = f"nats://{ports.HOST}:{nats}"
    try:
        nats_command = natsserver.command(folder.path / "nats", nats)
    except FileNotFoundError as error:
        raise exits.refused(str(error)) from error
    common = ["--nats-url", nats_url, "--data-dir", folder.path, "--listen-fd"]
    plane = supervising.python("controlplane", "serve", "--modules-path", modules, *common, api.fileno())
    return supervising.System(
        folder=folder,
        nats=children.Plan("nats", nats_command, stop_seconds=10, answers=lambda: ports.answers(nats)),
        controlplane=children.Plan("controlplane", plane, stop_seconds=20, pass_fds=(api.fileno(),)),
        workers=tuple(_worker(f"w{slot}", door, common) for slot in range(workers)),
        doors=(api, door),
        control_url=ports.url(api),
        data_url=ports.url(door),
        nats_url=nats_url,
    )


def _worker(name: str, door: socket.socket, common: list[object]) -> children.Plan:
    words = supervising.python("dataplane", "worker", "--id", name, *common, door.fileno())
    return children.Plan(name, words, stop_seconds=45, pass_fds=(door.fileno(),))


async def _run(system: supervising.System, modules: Path) -> int:
    from controlplane.cli import greeting  # late: the HTTP client is needed only when all is ready

    count = len(system.workers)
    _say(f"modplane: starting NATS, the control plane and {count} worker{'' if count == 1 else 's'}")
    return await supervising.Supervisor(
        system,
        told=lambda line: _say(f"modplane: {line}"),
        settled=lambda found: greeting.settled(found, modules),
        greet=lambda found: greeting.greet(found, system.folder.path, _say),
    ).run()


def _say(line: str) -> None:
    """Print a line; that nobody reads it any more is no reason to stop serving."""
    with contextlib.suppress(OSError):
        click.echo(line)
