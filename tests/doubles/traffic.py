"""A client that calls one URL for as long as a test does something else, and remembers every answer."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import httpx

PAUSE_SECONDS = 0.01
"""Between two calls of a caller: on a few cores, callers without a pause mostly hold up what they look at."""


class Traffic:
    """What the client saw: answers by status, and failures by kind."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.workers: Counter[str] = Counter()
        """Answers by ``x-modplane-worker``: id and boot."""

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.answers.total() + self.failures.total()

    def only(self, status: int) -> bool:
        """Whether every call was answered with ``status``."""
        return not self.failures and set(self.answers) == {status}


@contextlib.contextmanager
def flowing(url: str, *, callers: int = 2, fresh: int = 0) -> Iterator[Traffic]:
    """Call ``url`` from ``callers`` threads, each on a kept connection, until the block ends.

    Beside them ``fresh`` callers open a connection for each call.
    """
    seen = Traffic()
    ended = threading.Event()
    lock = threading.Lock()

    def call(headers: dict[str, str]) -> None:
        with httpx.Client(timeout=30, headers=headers) as client:
            while not ended.is_set():
                try:
                    answer = client.get(url)
                    status = answer.status_code
                except httpx.HTTPError as error:
                    with lock:
                        seen.failures[f"{type(error).__name__}: {error}"] += 1
                    continue
                with lock:
                    seen.answers[status] += 1
                    seen.workers[answer.headers.get("x-modplane-worker", "")] += 1
                ended.wait(PAUSE_SECONDS)

    kinds: list[dict[str, str]] = [{}] * callers + [{"connection": "close"}] * fresh
    threads = [threading.Thread(target=call, args=(headers,), daemon=True) for headers in kinds]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
