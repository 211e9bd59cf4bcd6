"""``modplane up``: the whole system on this machine, supervised, until interrupted.

Checks what can go wrong first (folder, second `up`, ports, NATS program), each with a message that says what to do;
then `controlplane.cli.supervising` runs the parts.
"""

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from controlplane.cli import admitting, children, endpoints, exits, folders, options, ports, supervising

_PORT = click.IntRange(0, 65_535)
_ATTEMPTS = 4
"""A worker that a module's code ends is started without that module after the second time; one to spare."""


@click.command(
    "up",
    short_help="Run the whole system on this machine",
    cls=options.Verb,
    examples=(
        "modplane up --modules deploy/examples",
        "modplane up --workers 4 --data-dir /var/lib/modplane",
        "modplane up --workers 2 --labels w0:zone=a --labels w1:zone=b,disk=fast",
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
@click.option(
    "--labels",
    multiple=True,
    metavar="[WORKER:]KEY=VALUE,...",
    help="Labels for spec.placement.workerSelector: of one worker (w0, w1, ...), or of all.  May be repeated.",
)
def command(
    workers: int,
    data_dir: Path,
    modules: Path,
    control_port: int,
    data_port: int,
    nats_port: int,
    labels: tuple[str, ...],
) -> int:
    """Run NATS, the control plane and the workers on this machine, until interrupted.

    When ready it prints the addresses and what to try, and writes them to endpoints.json in the data folder.  A part
    that dies is started again; SIGHUP replaces the workers one by one; nothing survives this command.
    """
    of_slots = _labels(labels, workers)
    folder = folders.take(data_dir)
    try:
        with ports.listen(control_port, "--control-port") as api, ports.listen(data_port, "--data-port") as door:
            nats = ports.free(nats_port, "--nats-port")
            system = _system(folder, api, door, nats=nats, modules=modules.absolute(), labels=of_slots)
            return asyncio.run(_run(system, modules))
    finally:
        folder.release()


def _labels(given: Sequence[str], workers: int) -> dict[str, str]:
    """The labels of each worker, as `modplane worker` takes them."""
    found: dict[str, dict[str, str]] = {f"w{slot}": {} for slot in range(workers)}
    for text in given:
        name, colon, rest = text.partition(":")
        pairs = (rest if colon else text).split(",")
        if colon and name not in found:
            raise click.BadParameter(
                f"{text!r}: there is no worker {name}; they are w0 to w{workers - 1}", param_hint="--labels"
            )
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not key.strip() or not equals:
                raise click.BadParameter(f"{pair!r} in {text!r} is not key=value", param_hint="--labels")
            for of_one in [found[name]] if colon else found.values():
                of_one[key.strip()] = value.strip()
    return {name: ",".join(f"{key}={value}" for key, value in pairs.items()) for name, pairs in found.items()}


def _system(
    folder: folders.DataFolder,
    api: socket.socket,
    door: socket.socket,
    *,
    nats: int,
    modules: Path,
    labels: Mapping[str, str],
) -> supervising.System:
    from controlplane.cli import natsusers
    from schemas.kits import natsserver  # late: only `up` runs a server

    admission, control_url = admitting.Admission(folder.path), ports.url(api, "https")
    for line in admission.prepare(control_url):
        _say(f"modplane: {line}")
    home = folder.path / "nats"
    try:
        users = natsusers.Users(home, tuple(labels))
        nats_command = natsserver.command(home, nats, users=users.listed())
    except FileNotFoundError as error:
        raise exits.refused(str(error)) from error
    common = ["--nats-url", f"nats://{ports.HOST}:{nats}", "--data-dir", folder.path]
    plane = supervising.python("controlplane", "serve", "--modules-path", modules, *common)
    plane += ["--auth-development", "true", "--nats-key-file", str(users.key_file(natsusers.CONTROL_PLANE))]
    plane += ["--listen-fd", str(api.fileno()), "--tls-cert-file", str(admission.server_file)]
    return supervising.System(
        folder=folder,
        nats=children.Plan("nats", nats_command, stop_seconds=10, answers=lambda: ports.answers(nats)),
        controlplane=children.Plan("controlplane", plane, stop_seconds=20, pass_fds=(api.fileno(),)),
        workers=tuple(_worker(name, of_it, door, common, users.key_file(name)) for name, of_it in labels.items()),
        doors=(api, door),
        control_url=control_url,
        data_url=ports.url(door),
        nats_url=users.url(ports.HOST, nats),
    )


def _worker(name: str, labels: str, door: socket.socket, common: list[object], key: Path) -> children.Plan:
    words = supervising.python("dataplane", "worker", "--id", name, "--auth-development", "true", *common)
    words += ["--nats-key-file", str(key), "--listen-fd", str(door.fileno())]
    if labels:
        words += ["--labels", labels]
    return children.Plan(name, words, stop_seconds=15, pass_fds=(door.fileno(),), attempts=_ATTEMPTS, confided=True)


async def _run(system: supervising.System, modules: Path) -> int:
    from controlplane.cli import greeting  # late: the HTTP client is needed only when all is ready

    count = len(system.workers)
    _say(f"modplane: starting NATS, the control plane and {count} worker{'' if count == 1 else 's'}")
    return await supervising.Supervisor(
        system,
        told=lambda line: _say(f"modplane: {line}"),
        settled=lambda found: greeting.settled(found, modules),
        greet=lambda found: greeting.greet(found, system.folder.path, _say, modules),
    ).run()


def _say(line: str) -> None:
    """Print a line; that nobody reads it any more is no reason to stop serving."""
    with contextlib.suppress(OSError):
        click.echo(line)
