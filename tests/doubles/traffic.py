"""A client that calls one URL for as long as a test does something else, and remembers every answer."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import httpx


class Traffic:
    """What the client saw: answers by status, and failures by kind."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.answers.total() + self.failures.total()

    def only(self, status: int) -> bool:
        """Whether every call was answered with ``status``."""
        return not self.failures and set(self.answers) == {status}


@contextlib.contextmanager
def flowing(url: str, *, callers: int = 2) -> Iterator[Traffic]:
    """Call ``url`` from ``callers`` threads, each on a kept connection, until the block ends."""
    seen = Traffic()
    ended = threading.Event()
    lock = threading.Lock()

    def call() -> None:
        with httpx.Client(timeout=10) as client:
            while not ended.is_set():
                try:
                    status = client.get(url).status_code
                except httpx.HTTPError as error:
                    with lock:
                        seen.failures[f"{type(error).__name__}: {error}"] += 1
                    continue
                with lock:
                    seen.answers[status] += 1
                ended.wait(0.002)

    threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join(15)
