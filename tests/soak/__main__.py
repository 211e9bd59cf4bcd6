"""``python -m tests.soak``: MINUTES (30) and SEED from the environment; exit code 0 when nothing was found.

Ends by itself within its bound.  After a failure the folder with everything is kept, and its place is told.
"""

import faulthandler
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.soak import faults, soaking

ENDING_SECONDS = 420.0
"""What a soak may take beside its minutes: the last agreement, and the end of every process."""


def main() -> int:
    """Soak and tell."""
    minutes = float(os.environ.get("MINUTES") or 30)
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    home = Path(tempfile.mkdtemp(prefix="modplane-soak-"))
    faulthandler.dump_traceback_later(60 * minutes + ENDING_SECONDS, exit=True)
    print(f"soak: MINUTES={minutes:g} SEED={seed}, in {home}", flush=True)
    history: list[str] = []

    def told(line: str) -> None:
        history.append(line)
        print(line, flush=True)

    with faults.small_disk(home / "data") as mounted:
        print(f"soak: {'a disk of its own can be filled' if mounted else 'no disk of its own: files are limited'}")
        soak = soaking.Soak(home, seed, 60 * minutes, told)
        try:
            report = soak.run()
        except BaseException as error:
            (home / "history.log").write_text("\n".join(history) + f"\n{error}\n")
            if mounted:
                shutil.copytree(home / "data", home / "kept", dirs_exist_ok=True)
            print("\n".join(soaking.lines(soak.report)))
            print(f"\nsoak: FAILED with SEED={seed}: {error}\nsoak: logs and history are in {home}", flush=True)
            if not isinstance(error, (AssertionError, OSError)):
                raise
            return 1
    print("\n".join(soaking.lines(report)))
    print(f"soak: nothing found in {minutes:g} minutes with SEED={seed}")
    shutil.rmtree(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
