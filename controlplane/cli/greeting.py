"""What `modplane up` says when it is ready: the addresses, then what to try, with real ports and real paths."""

import asyncio
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from controlplane.cli import client, endpoints, exits, printing, touring
from schemas.meta import Json
from schemas.names import API_PREFIX, MODULES_PREFIX

SETTLE_SECONDS: Final = 20.0
"""How long the greeting waits for the discovered modules to become ACTIVE or fail."""
_FIRST_SECONDS: Final = 5.0
"""How long it waits for a first module."""
_EXAMPLES: Final = 3


def addresses(found: endpoints.Endpoints, data_dir: Path) -> list[str]:
    """Where everything is."""
    count = len(found.workers)
    return [
        "modplane is ready.",
        f"  control plane  {found.control_plane}" + (f"  (CA: {_near(found.ca_file)})" if found.ca_file else ""),
        f"  data plane     {found.data_plane}  ({count} worker{'' if count == 1 else 's'})",
        f"  NATS           {_plain(found.nats)}  (events: modplane.events.>)",
        f"  logs           {data_dir / 'logs'}",
    ]


def _plain(url: str) -> str:
    """An address without name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Guarded:
    """A route that asks for a token, and what a token for it has to say."""

    url: str
    words: tuple[str, ...]
    """For `modplane token create`."""


def suggestions(
    modules: list[Json],
    found: endpoints.Endpoints,
    data_dir: Path,
    guarded: Guarded | None = None,
    tour: Sequence[str] = (),
) -> list[str]:
    """What to type next."""
    opened = [
        f"curl {_url(module, route, found)}"
        for module in modules
        for route in module.get("status", {}).get("routes", [])
        if route["method"] == "GET" and "{" not in route["path"] and route["auth"] == "NONE"
    ]
    program = _program(data_dir)
    lines = [*opened[:_EXAMPLES], *_guarded(guarded, program)]
    lines += [f"{program} get modules", f"{program} events -f", *_by_api(found)]
    broken = [module["metadata"]["name"] for module in modules if module.get("status", {}).get("state") == "ERROR"]
    lines += [f"{program} describe module {name}   # it is in ERROR" for name in broken[:_EXAMPLES]]
    shown = ["Try, in another terminal:", *(f"  {line}" for line in lines)]
    if tour:
        shown += ["Then tenants, a flag, and the audit trail of all that:", *(f"  {line}" for line in tour)]
    return [*shown, "Ctrl-C stops everything."]


def _guarded(route: Guarded | None, program: str) -> list[str]:
    if route is None:
        return []
    words = shlex.join(("--sub", "ada", *route.words))
    return [
        f"curl -i {route.url}   # 401: this route asks for a token",
        f"TOKEN=$({program} token create {words})",
        f'curl -i {route.url} -H "authorization: Bearer $TOKEN"   # 200',
    ]


def _by_api(found: endpoints.Endpoints) -> list[str]:
    """The control plane without our command line."""
    if not found.ca_file:
        return []
    token, ca_file = _near(found.token_file), _near(found.ca_file)
    lines = [
        f'curl --cacert {ca_file} -H "authorization: Bearer $(cat {token})" {found.control_plane}{API_PREFIX}/modules'
    ]
    if shutil.which("kubectl"):
        lines.append(f"kubectl --kubeconfig {_near(found.kubeconfig)} get modules")
    return lines


def _near(path: str) -> str:
    """A path as one types it here."""
    near = os.path.relpath(path)
    return shlex.quote(path if near.startswith("..") else near)


def guarded_route(document: Json, door: str) -> Guarded | None:
    """The first route of an OpenAPI document of the data plane that a token alone opens."""
    for path, operations in document.get("paths", {}).items():
        asked = operations.get("get", {}).get("x-auth", {"level": "NONE"})
        if asked["level"] != "NONE" and "{" not in path and not asked.get("featureFlags"):
            words = [word for clause in asked.get("permissions", []) for word in ("--permission", clause[0])]
            roles = [clause[0] for clause in asked.get("roles", [])] + ["admin"] * (asked["level"] == "ADMIN")
            return Guarded(door + path, (*words, *(word for role in roles for word in ("--role", role))))
    return None


async def greet(
    found: endpoints.Endpoints, data_dir: Path, told: Callable[[str], None], folder: Path | None = None
) -> None:
    """Tell the addresses and what to try; ``folder``: the modules path, which may have a tour."""
    modules = await asyncio.to_thread(_modules, found)
    lines = addresses(found, data_dir)
    if modules:
        head = [["NAME", "STATE", "PATH"]]
        rows = [[each["metadata"]["name"], each.get("status", {}).get("state", "?"), _prefix(each)] for each in modules]
        lines += ["Modules:", *(f"  {line}" for line in printing.aligned(head + rows))]
    else:
        lines.append("There are no modules yet: put one into the modules folder, or apply a manifest.")
    guarded = await asyncio.to_thread(_guarded_of, modules, found)
    tour = [] if folder is None or not modules else touring.lines(folder, found.data_plane, _program(data_dir))
    for line in [*lines, *suggestions(modules, found, data_dir, guarded, tour)]:
        told(line)


async def settled(found: endpoints.Endpoints, folder: Path) -> None:
    """Wait until the modules of the modules path are ACTIVE or in ERROR, but not for ever."""
    started = time.monotonic()
    expected = await asyncio.to_thread(_offers, folder)
    before = -1
    while (passed := time.monotonic() - started) < SETTLE_SECONDS:
        modules = await asyncio.to_thread(_modules, found)
        states = {each.get("status", {}).get("state") for each in modules}
        if modules and len(modules) == before and states <= {"ACTIVE", "ERROR"}:
            return
        if not modules and (not expected or passed > _FIRST_SECONDS):
            return
        before = len(modules)
        await asyncio.sleep(0.1)


def _offers(folder: Path) -> bool:
    return folder.is_dir() and any(entry.suffix in (".py", ".yaml", ".yml", "") for entry in folder.glob("[!._]*"))


def _modules(found: endpoints.Endpoints) -> list[Json]:
    api = client.Client(found.control_plane, endpoints.token(found), ca_file=found.ca_file)
    try:
        return list(api.list_all("modules")["items"])
    except exits.Exit:
        return []
    finally:
        api.close()


def _guarded_of(modules: list[Json], found: endpoints.Endpoints) -> Guarded | None:
    """A route that a token opens, of a module that is not for single organisations."""
    door = client.Client(found.data_plane)
    try:
        for module in modules:
            if module.get("spec", {}).get("tenancy", "shared") == "shared":
                asked = {"module": str(module["metadata"]["name"])}
                if route := guarded_route(door.request("GET", "/openapi.json", params=asked), found.data_plane):
                    return route
    except exits.Exit:
        return None
    finally:
        door.close()
    return None


def _prefix(module: Json) -> str:
    spec = module.get("spec", {})
    routing = spec.get("routing", {})
    namespace = routing.get("namespace") or module["metadata"]["name"]
    return f"{MODULES_PREFIX}/{routing.get('apiVersion', 'v1')}/{namespace}"


def _url(module: Json, route: Json, found: endpoints.Endpoints) -> str:
    return f"{found.data_plane}{_prefix(module)}{route['path']}"


def _program(data_dir: Path) -> str:
    """How to call this command from the same working folder."""
    here = Path(sys.argv[0])
    on_path = shutil.which("modplane")
    if on_path and Path(on_path).resolve() == here.resolve():
        name = "modplane"
    else:
        name = shlex.quote(os.path.relpath(here) if here.is_absolute() else str(here))
    if data_dir == Path(endpoints.DATA_DIR).absolute():
        return name
    return f"MODPLANE_DATA_DIR={shlex.quote(str(data_dir))} {name}"
