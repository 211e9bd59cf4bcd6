"""``modplane up``: NATS, control plane and workers on this machine, supervised until interrupted.

Takes the data folder, starts the system (`supervising`), greets, waits for a signal, ends everything.  Nothing
survives it, however it ends (`guarding`).
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import click

from controlplane.cli import children, endpoints, exits, folders, greeting, supervising


@click.command("up", short_help="Run the whole system on this machine")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many workers serve.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(endpoints.DATA_DIR),
    show_default=True,
    envvar="MODPLANE_DATA_DIR",
    help="Folder of everything that has to survive.",
)
@click.option(
    "--modules",
    type=click.Path(path_type=Path),
    default=Path("modules"),
    show_default=True,
    envvar="MODPLANE_MODULES_PATH",
    help="Folder with modules.",
)
@click.option("--control-port", type=click.IntRange(0, 65535), default=7400, show_default=True, help="Of the API.")
@click.option("--data-port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Of the modules.")
@click.option("--nats-port", type=click.IntRange(0, 65535), default=4222, show_default=True, help="Of NATS.")
def command(workers: int, data_dir: Path, modules: Path, control_port: int, data_port: int, nats_port: int) -> int:
    r"""Run NATS, a control plane and workers on this machine until interrupted (Ctrl-C).

    Port 0 picks a free one.  The addresses are printed and written to DATA_DIR/endpoints.json, where every other
    command finds them.

    \b
    Examples:
      modplane up
      modplane up --workers 4 --modules ./modules --data-port 9000
    """
    wish = supervising.Wish(workers, modules.absolute(), control_port, data_port, nats_port)
    folder = folders.take(data_dir)
    try:
        endpoints.remove(folder.path)
        return asyncio.run(_up(wish, folder))
    finally:
        folder.release()


async def _up(wish: supervising.Wish, folder: folders.DataFolder) -> int:
    system = supervising.System(wish, folder, _tell)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _interrupted, system, ending)
    life = asyncio.create_task(_live(system, folder.path))
    ended = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({life, ended}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
            await ended
    except children.FailedError as error:
        raise exits.no(f"modplane up could not start: {error}") from error
    finally:
        life.cancel()
        ended.cancel()
        with contextlib.suppress(asyncio.CancelledError, children.FailedError):
            await life
        await system.stop()
    _tell("stopped.")
    return exits.YES


async def _live(system: supervising.System, data_dir: Path) -> None:
    await system.start()
    await greeting.greet(system.found, data_dir, _tell)


def _interrupted(system: supervising.System, ending: asyncio.Event) -> None:
    if ending.is_set():
        _tell("killing what is left.")
        system.kill()
    else:
        _tell("stopping: workers finish their requests first (again: at once).")
        ending.set()


def _tell(line: str) -> None:
    """One line for the person at the terminal; nobody may be there any more."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
