"""A stand-in child for the supervisor: says ready, then does as it was told until its standard input ends.

``python standin.py NAME BEHAVIOUR``; each start adds a line to NAME.starts. Behaviours: ``good`` ends with its input
or SIGTERM; ``deaf`` ignores both; ``fails`` ends with code 7 before it is ready; ``brief`` dies after it was ready,
but only the first time; ``silent`` never says that it is ready; ``heirless`` is silent and ``barren`` fails from its
second start on; ``stumbles`` fails at its first two starts; ``weary`` asks to be recycled the first time; ``unheard``
says once that NATS stores nothing. Other words that it is given go to NAME.words.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path


def main(name: str, behaviour: str, *words: str) -> None:
    starts = Path(f"{name}.starts")
    with starts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    count = len(starts.read_text().split())
    sys.stderr.write(f"{name} speaks\n")
    with Path(f"{name}.words").open("a") as file:
        file.write(" ".join(words) + "\n")
    if behaviour == "heirless":
        behaviour = "good" if count == 1 else "silent"
    if behaviour == "fails" or (behaviour == "barren" and count > 1) or (behaviour == "stumbles" and count < 3):
        sys.stderr.write("the disk is made of cheese\n")
        sys.exit(7)
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour != "silent":
        sys.stdout.write("x" * 3_000_000 + "\nsome words\n")
        ready = {"event": "ready", "address": f"http://{name}/{count}", "boot": f"b{count}", "hostVersion": "python/1"}
        sys.stdout.write(json.dumps(ready) + "\n")
        if behaviour == "weary" and count == 1:
            sys.stdout.write(json.dumps({"event": "recycle", "reason": "memory is full"}) + "\n")
        if behaviour == "unheard":
            sys.stdout.write(json.dumps({"event": "unstored", "reason": "nobody listens"}) + "\n")
        sys.stdout.flush()
    if behaviour == "brief" and count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while sys.stdin.read(1):
        pass
    if behaviour == "deaf":
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
