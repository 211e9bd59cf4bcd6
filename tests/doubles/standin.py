"""A stand-in child for the supervisor: says ready, then does as it was told until its standard input ends.

``python standin.py NAME BEHAVIOUR``; each start adds a line to NAME.starts.  Behaviours: ``good`` ends with its input
or SIGTERM; ``deaf`` ignores both; ``fails`` ends with code 7 before it is ready; ``brief`` dies after it was ready,
but only the first time; ``silent`` never says that it is ready.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path


def main(name: str, behaviour: str) -> None:
    starts = Path(f"{name}.starts")
    with starts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    count = len(starts.read_text().split())
    sys.stderr.write(f"{name} speaks\n")
    if behaviour == "fails":
        sys.stderr.write("the disk is made of cheese\n")
        sys.exit(7)
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour != "silent":
        sys.stdout.write("x" * 3_000_000 + "\nsome words\n")
        sys.stdout.write(json.dumps({"event": "ready", "address": f"http://{name}/{count}"}) + "\n")
        sys.stdout.flush()
    if behaviour == "brief" and count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while sys.stdin.read(1):
        pass
    if behaviour == "deaf":
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:3])
