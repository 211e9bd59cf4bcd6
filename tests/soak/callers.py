"""Clients that call modules without pause and keep every answer until it is judged."""

import random
import threading
import time
from collections.abc import Callable, Sequence

import httpx

from tests.soak import histories

_PATIENCE = 40.0
"""Seconds of silence that a caller bears: more than any limit of the platform."""
_PAUSE = 0.02
_CALLS = (
    ("who", histories.Asked.OPEN),
    ("who", histories.Asked.OPEN),
    ("thread", histories.Asked.OPEN),
    ("mine", histories.Asked.ALLOWED),
    ("mine", histories.Asked.BARE),
)


class Callers:
    """Some threads; half of the calls go over kept connections, half over fresh ones."""

    def __init__(self, door: str, names: Callable[[], Sequence[str]], token: str, seed: int, count: int = 2) -> None:
        """``token`` has the role that guarded routes want."""
        self._door = door
        self._token = token
        self._names = names
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._answers: list[histories.Answer] = []
        self._threads = [
            threading.Thread(target=self._call, args=(random.Random(f"{seed}/{each}"), each % 2 == 1), daemon=True)
            for each in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(_PATIENCE + 5)

    def take(self) -> list[histories.Answer]:
        """The answers since the last call."""
        with self._lock:
            taken, self._answers = self._answers, []
        return taken

    def _call(self, rng: random.Random, fresh: bool) -> None:
        headers = {"connection": "close"} if fresh else {}
        with httpx.Client(timeout=_PATIENCE, headers=headers) as client:
            while not self._ended.is_set():
                names = self._names()
                if names:
                    name = rng.choice(names)
                    answer = self._ask(client, name, *rng.choice(_CALLS))
                    with self._lock:
                        self._answers.append(answer)
                self._ended.wait(_PAUSE)

    def _ask(self, client: httpx.Client, name: str, route: str, asked: histories.Asked) -> histories.Answer:
        headers = {"authorization": f"Bearer {self._token}"} if asked is histories.Asked.ALLOWED else {}
        started = time.monotonic()
        try:
            found = client.get(f"{self._door}/api/v1/modules/v1/{name}/{route}", headers=headers)
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
            return histories.Answer(name, started, time.monotonic(), asked, failure=failure)
        ended, worker = time.monotonic(), found.headers.get("x-modplane-worker", "")
        if found.status_code != 200:
            told = found.text[:300]
            return histories.Answer(name, started, ended, asked, found.status_code, worker=worker, detail=told)
        said = found.json()
        return histories.Answer(
            name, started, ended, asked, 200, "", worker,
            said.get("module", ""), said.get("token", ""), said.get("stamp", ""),
        )  # fmt: skip
