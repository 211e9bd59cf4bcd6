"""Test a module as it will be served: its real loader, its real gateway, its real address, without a control plane.

::

    from pathlib import Path
    from dataplane import testing

    def test_greets() -> None:
        with testing.load(Path(__file__).parents[1]) as client:
            assert client.get("/hello").json() == {"hello": "world"}

    def test_readers_may_read() -> None:
        with testing.load(Path(__file__).parents[1], caller=testing.caller("ada", permissions=["read"])) as client:
            assert client.get("/reports").status_code == 200
            assert client.acting(testing.caller("eve")).get("/reports").status_code == 403
            assert client.acting(None).get("/reports").status_code == 401

Always holds: what `load` accepts is built by the code that a worker runs; the address, the policies and the lifespan
are the real ones.  For module authors' tests; nothing here is used by a running system.
"""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from dataplane import doors
from dataplane.errors import DataPlaneError, StartFailed
from dataplane.gateway import hosting
from dataplane.runtime import confiding
from dataplane.sdk import BaseModuleRouter
from dataplane.workshop import benches, developing, showing, staging
from dataplane.workshop.staging import principal as caller
from schemas.meta import Json
from schemas.principals import Principal

__all__ = ["ModuleClient", "ModuleRefused", "Principal", "caller", "load"]


class ModuleRefused(DataPlaneError):  # noqa: N818 - named for what happened, as in the rest of the house
    """The module cannot be served; the message says why, with file and line."""


class ModuleClient(httpx.Client):
    """An `httpx.Client` whose paths are below the module's own address: ``client.get("/hello")``.

    Redirects are followed.  A URL with a scheme is taken as it is: ``client.get(client.door + "/openapi.json")``.
    """

    def __init__(
        self,
        door: str,
        prefix: str,
        name: str,
        module: BaseModuleRouter | None,
        *,
        cast: staging.Cast,
        caller: Principal | None = None,
    ) -> None:
        self.credentials = {} if caller is None else {"authorization": cast.credentials(caller)}
        """The headers that say who calls, for clients of one's own, such as those of WebSockets."""
        super().__init__(
            base_url=f"{door}{prefix}",
            headers=self.credentials,
            follow_redirects=True,
            trust_env=False,
            timeout=30.0,
        )
        self._cast = cast
        self._others: list[ModuleClient] = []
        self.door = door
        """URL of the gateway, such as ``http://127.0.0.1:39123``."""
        self.prefix = prefix
        """The module's address on it: ``/api/v1/modules/v1/pricing``."""
        self.name = name
        self.module = module
        """The author's instance, to look inside; it lives on the gateway's loop, in another thread."""

    def acting(self, caller: Principal | None) -> "ModuleClient":
        """A client of the same module for somebody else (None: nobody); it is closed with this one."""
        other = ModuleClient(self.door, self.prefix, self.name, self.module, cast=self._cast, caller=caller)
        self._others.append(other)
        return other

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Give the connections back, also those of who called beside."""
        for other in self._others:
            other.close()
        super().__exit__(kind, error, trace)

    def websocket(self, path: str) -> str:
        """The URL of a WebSocket of this module, for any WebSocket client."""
        return f"{self.door.replace('http', 'ws', 1)}{self.prefix}{path}"


@contextmanager
def load(
    path: Path | str,
    name: str | None = None,
    *,
    config: Json | None = None,
    secrets: Mapping[str, str] | None = None,
    guarded: bool = True,
    caller: Principal | None = None,
    organisations: Mapping[str, Json] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Iterator[ModuleClient]:
    """Serve the module at ``path`` (its folder or file) and yield a client of it.

    ``name``: which one, if there are several.  ``config``: instead of the manifest's.  ``secrets``: values by name
    for its ``secret://name``; others are looked for where a worker would.  Not ``guarded``: every route answers to
    anybody, so that handlers can be tested without tokens.

    ``caller``: who calls, made with `caller`; without one, nobody is known, and `ModuleClient.acting` calls as somebody
    else.  ``organisations``: those with access to the module, each with its configuration for it.  ``flags``: values by
    name, for everybody; a flag that is not named is off.  Raises `ModuleRefused`.
    """
    cast, hidden = staging.Cast(), confiding.Secrets.of(os.environ, secrets)
    scenery = staging.Scenery(flags or {}, organisations or {}, hidden)
    with _Gateway(Path(path), config=config, guarded=guarded, cast=cast, scenery=scenery) as gateway:
        modules = gateway.host.snapshot.modules
        if name is None and len(modules) != 1:
            raise ModuleRefused("SeveralModules", f"{path} has {', '.join(sorted(modules))}; name one of them")
        served = modules.get(name or next(iter(modules)))
        if served is None:
            raise ModuleRefused("NoSuchModule", f"{path} has no module {name!r}; it has {', '.join(sorted(modules))}")
        module = getattr(served.instance, "module", None)
        with ModuleClient(gateway.url, served.prefix, served.name, module, cast=cast, caller=caller) as client:
            yield client


class _Gateway:
    """A gateway in a thread of its own, with the modules of one path."""

    def __init__(
        self, path: Path, *, config: Json | None, guarded: bool, cast: staging.Cast, scenery: staging.Scenery
    ) -> None:
        self.host = hosting.Host(grace=1.0)
        self.url = ""
        self._path = path
        self._config = config
        self._cast = cast
        self._scenery = scenery
        self._guarded = guarded
        self._refused: list[benches.Told] = []
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._standing = threading.Event()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="modplane-testing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._standing.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None, "the thread stands"
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is the test's, and raised there
            self._failure = error
        finally:
            self._standing.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        door = doors.open_socket("127.0.0.1", 0)
        server = developing.serve(self.host, door, self._cast.gate())
        serving = asyncio.create_task(server.run_own_door(), name="own door")
        bench = benches.Bench(
            self._path,
            self.host,
            self._told,
            guarded=self._guarded,
            config=self._config,
            secrets=self._scenery.secrets,
        )
        with bench:
            try:
                await bench.refresh()
                if self._refused:
                    show = showing.Show(server.address)
                    show.places(bench.roots, bench.code_root)
                    first = self._refused[0]
                    raise ModuleRefused(first.reason, show.plain(f"{first.subject}: {first.reason}: {first.message}"))
                try:
                    self.host.stand(self._scenery.standing(self.host.snapshot.modules))
                except StartFailed as error:
                    raise ModuleRefused(error.reason, f"organisations: {error.message}") from error
                self.url = server.address
                self._standing.set()
                await self._ending.wait()
            finally:
                await self.host.close()
                server.should_exit = True
                await serving

    def _told(self, told: benches.Told) -> None:
        if told.reason:
            self._refused.append(told)
