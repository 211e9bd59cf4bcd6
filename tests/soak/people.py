"""What people do to the platform, at random: ship, apply, edit, delete, break, and call what behaves badly.

Every step is told as a line.  A step that the platform could not take (it is down) is told as such and tried no more:
what counts is only what was acknowledged, and that must stand.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

from tests.doubles.platform import Platform
from tests.soak import histories, sources

_OBJECT = "/apis/modplane.dev/v1/modules"
MOST = 14
"""How many modules there are at a time."""
_TIMEOUT = 15.0


class People:
    """Everybody who uses one platform, one at a time."""

    def __init__(
        self,
        platform: Platform,
        history: histories.History,
        ledger: sources.Ledger,
        rng: Random,
        told: Callable[[str], None],
    ) -> None:
        self._platform = platform
        self._history = history
        self._ledger = ledger
        self._rng = rng
        self._told = told
        self._numbers = itertools.count(1)
        self._http = platform.administrator()
        self.done: Counter[str] = Counter()
        self.refused = 0
        """Steps that the platform could not take."""
        self.names: list[str] = []
        """Names that somebody ships or shipped; callers call them all."""
        self.acknowledged: dict[str, tuple[str, int, str]] = {}
        """By name: uid, generation and stamp of the newest acknowledged apply."""
        self.noisy: set[str] = set()
        self.leaving: set[str] = set()
        self.contests: dict[str, str] = {}
        """By name: whose namespace it asks for as well, and is refused."""
        self._sorts: list[sources.Sort] = []

    def close(self) -> None:
        self._http.close()

    def step(self, *, poison: bool = True) -> None:
        """Do one thing; ``poison``: it may be code that ends the workers that load it."""
        living = sorted(self._ledger.shipped.keys() - self.leaving)
        if len(living) < 5:
            return self.create()
        weights: dict[Callable[[], None], int] = {
            self.create: 3 if len(living) < MOST else 0,
            lambda: self.change_code(self._rng.choice(living)): 5,
            lambda: self.apply(self._rng.choice(living)): 5,
            lambda: self.contest(self._rng.choice(living)): 1,
            lambda: self.delete(self._rng.choice(living)): 2,
            lambda: self.spoil(self._rng.choice(living), poison=poison): 4,
            lambda: self.shout(self._rng.choice(living)): 3,
            self.prune: 1,
        }
        (chosen,) = self._rng.choices(list(weights), list(weights.values()))
        return chosen()

    def create(self) -> None:
        """A new name, or one that was there before; found by discovery, or applied as well."""
        free = [name for name in (f"m{number}" for number in range(MOST + 4)) if name not in self._ledger.shipped]
        name = self._rng.choice(free)
        if name not in self.names:
            self.names.append(name)
        self.leaving.discard(name)
        self._ship(name, None, noisy=self._rng.random() < 0.3)
        if self._rng.random() < 0.6:
            self.apply(name)

    def change_code(self, name: str) -> None:
        """Other code, as good as the last."""
        self._ship(name, None, noisy=name in self.noisy)

    def spoil(self, name: str, *, poison: bool = True) -> None:
        """Other code, of the next bad sort."""
        if not self._sorts:
            self._sorts = list(sources.SORTS)
            self._rng.shuffle(self._sorts)
        sort = self._sorts.pop()
        if sort.cuts:
            if not poison:
                return
            self._history.spans.append(histories.Span(sort.name, time.monotonic(), cuts=True, parts=True))
        self._ship(name, sort)

    def heal(self) -> list[str]:
        """Ship good code wherever bad code lies; returns the names."""
        bad = [name for name in sorted(self._ledger.shipped) if self._ledger.kind(name) != sources.GOOD]
        for name in bad:
            self._ship(name, None, noisy=name in self.noisy)
        return bad + self._settle_contests(sorted(self.contests))

    def contest(self, name: str) -> None:
        """Apply a manifest that asks for the routes of another module, which everybody serves: they stay its own."""
        owners = self._history.firm.keys() & self._ledger.shipped.keys() - self.leaving - self._history.loose_at.keys()
        owners -= {name, *self.contests}
        if name not in self._history.firm or name in self.contests or name in self.contests.values() or not owners:
            return
        self.contests[name] = self._rng.choice(sorted(owners))
        self.apply(name)

    def _settle_contests(self, names: list[str]) -> list[str]:
        """Those ask for their own routes again; returns who does."""
        for name in names:
            owner = self.contests.pop(name)
            self.apply(name)
            if name not in self.acknowledged:
                self.contests[name] = owner
        return [name for name in names if name not in self.contests]

    def apply(self, name: str) -> None:
        """Apply a manifest with a new stamp, sometimes with other limits."""
        stamp = f"s{next(self._numbers)}"
        spec: dict[str, Any] = {"entryPoint": f"{name}:Soaked", "version": "1.0.0", "config": {"stamp": stamp}}
        if name in self.contests:
            spec["routing"] = {"namespace": self.contests[name]}
        if self._rng.random() < 0.5:
            spec["limits"] = {"timeoutSeconds": 5, "maxConcurrency": self._rng.randrange(40, 100)}
        manifest = {"apiVersion": "modplane.dev/v1", "kind": "Module", "metadata": {"name": name}, "spec": spec}
        answer = self._ask(
            "PATCH",
            f"{_OBJECT}/{name}?fieldManager=soak&force=true",
            content=json.dumps(manifest).encode(),
            headers={"content-type": "application/apply-patch+yaml"},
        )
        what = "no answer" if answer is None else f"{answer.status_code}"
        if answer is not None and answer.status_code in (200, 201):
            metadata = answer.json()["metadata"]
            self.acknowledged[name] = (metadata["uid"], metadata["generation"], stamp)
            what = f"generation {metadata['generation']}"
        else:
            self.refused += 1
            self.acknowledged.pop(name, None)
        about = f" asks for the routes of {self.contests[name]}" if name in self.contests else ""
        self._tell("contest" if about else "apply", f"{name} {stamp}{about}: {what}")

    def delete(self, name: str) -> None:
        """Take the code away; discovery deletes what it made alone, the rest is deleted by hand."""
        rivals = [rival for rival, owner in self.contests.items() if owner == name]
        if name in self.contests or len(self._settle_contests(rivals)) < len(rivals):
            return
        self._loosen(name)
        self._ledger.take_away(name)
        if self._rng.random() < 0.3:
            self._tell("remove folder", name)
        else:
            self._remove(name)

    def sweep(self) -> None:
        """Ask once more for the deletion of everything whose code is gone."""
        for name in sorted(self.leaving):
            found = self._ask("GET", f"{_OBJECT}/{name}")
            if found is None or found.status_code != 404:
                self._remove(name)

    def prune(self) -> None:
        """A scan on demand that deletes what is gone."""
        answer = self._ask("POST", "/api/v1/module-management/modules/discover", json={"prune": True}, timeout=60)
        self._tell("prune", "no answer" if answer is None else str(answer.status_code))

    def shout(self, name: str) -> None:
        """Call a handler that behaves badly, where there is one."""
        if name not in self.noisy:
            return
        path, _, expected = self._rng.choice(sources.NOISES)
        try:
            url = f"{self._platform.door}/api/v1/modules/v1/{name}/{path}"
            status = str(httpx.get(url, timeout=3).status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        self._tell("shout", f"{name}/{path}: {status} (usually {expected})")

    def _ship(self, name: str, sort: sources.Sort | None, *, noisy: bool = False) -> None:
        token = f"t{next(self._numbers)}"
        (self.noisy.add if noisy else self.noisy.discard)(name)
        self._ledger.ship(name, token, sort, noisy=noisy)
        self._tell("ship" if sort is None else f"ship: {sort.name}", f"{name} {token}{' (noisy)' if noisy else ''}")

    def _loosen(self, name: str) -> None:
        self._history.loose_at.setdefault(name, time.monotonic())
        self.leaving.add(name)
        self.acknowledged.pop(name, None)

    def _remove(self, name: str) -> None:
        answer = self._ask("DELETE", f"{_OBJECT}/{name}")
        self._tell("delete", f"{name}: {'no answer' if answer is None else answer.status_code}")

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        try:
            return self._http.request(method, f"{self._platform.control}{path}", **{"timeout": _TIMEOUT, **more})
        except (httpx.HTTPError, OSError):
            return None

    def _tell(self, what: str, about: str) -> None:
        self.done[what.partition(":")[0]] += 1
        self._told(f"{what}: {about}")
