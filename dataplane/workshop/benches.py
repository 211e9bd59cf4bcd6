"""Keeps a host in step with a path on disk: what changed is inspected, built and swapped in, what fails is told.

Always holds: a failure never takes the last good version out of service, is told once, and concerns one module; code
is loaded from a packed copy, so that a half-saved file is never half-loaded.  Called by `dataplane.workshop.developing`
on each change and by `dataplane.testing` once; goes to `dataplane.agent.loading` and `dataplane.gateway.hosting`.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dataplane.agent import loading
from dataplane.agent.holding import Wanted
from dataplane.errors import LoadFailed, StartFailed
from dataplane.gateway import hosting, serving
from dataplane.runtime import building, confiding
from dataplane.workshop import inspecting, manifests, refusing, sources
from dataplane.workshop.manifests import Manifest
from schemas import digests
from schemas.inspections import InspectionOutcome, InspectionReport, InspectionRequest
from schemas.kits.clocks import Clock, SystemClock
from schemas.meta import Json
from schemas.module import DesiredModule

Check = Callable[[Path], Awaitable[list[str]]]
"""What admission says against a manifest's file, as lines; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened."""

    subject: str
    """The module, source or file that it concerns."""
    generation: int = 0
    """Which now serves; 0: none."""
    reason: str = ""
    """CamelCase, if something failed."""
    message: str = ""
    served: serving.Served | None = None
    """What was swapped in."""
    gone: bool = False


Tell = Callable[[Told], None]


class Bench:
    """The modules of one path in service on one host."""

    def __init__(
        self,
        path: Path,
        host: hosting.Host,
        tell: Tell,
        *,
        inspect: inspecting.Inspect = inspecting.here,
        check: Check | None = None,
        guarded: bool = True,
        config: Json | None = None,
        secrets: confiding.Secrets = building.NO_SECRETS,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._host = host
        self._tell = tell
        self._inspect = inspect
        self._check = check
        self._guarded = guarded
        self._config = config
        self._secrets = secrets
        self._loader = loading.Loader(self._build, clock or SystemClock())
        self._folder = tempfile.TemporaryDirectory(prefix="modplane-dev-", ignore_cleanup_errors=True)
        self.code_root = Path(self._folder.name).resolve() / "code"
        self.roots: dict[str, Path] = {}
        """Digest → the folder that holds the source it was packed from."""
        self._seen: sources.Fingerprint | None = None
        self._trouble = ""
        self._digests: dict[str, str] = {}
        self._manifests: dict[Path, tuple[bytes, list[Manifest]]] = {}
        self._derived: dict[str, tuple[str, list[Manifest] | None]] = {}
        self._tried: dict[str, tuple[str, Manifest]] = {}
        self._generations: dict[str, int] = {}

    def __enter__(self) -> Self:
        """The packed copies live until the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loader.close()
        self._folder.cleanup()

    async def refresh(self) -> None:
        """Bring the host in step with the path; costs a few file system calls if nothing changed."""
        try:
            found = await asyncio.to_thread(sources.find, self._path)
            if found.fingerprint == self._seen:
                return
            for source in found.sources.values():
                self._digests[source.top] = await asyncio.to_thread(sources.pack, source, self.code_root)
                self.roots[self._digests[source.top]] = source.place.parent
        except (LoadFailed, OSError) as error:
            self._seen = None
            reason = error.reason if isinstance(error, LoadFailed) else "SourceUnreadable"
            if str(error) != self._trouble:
                self._tell(Told(str(self._path), 0, reason, str(error)))
            self._trouble = str(error)
            return
        self._seen, self._trouble = found.fingerprint, ""
        wanted, unsure = await self._wanted(found)
        await self._remove({manifest.name for manifest in wanted}, unsure, found)
        for manifest in wanted:
            await self._bring(manifest)
        await self._tidy()

    async def _wanted(self, found: sources.Findings) -> tuple[list[Manifest], bool]:
        """Every module asked for, and whether some could not be made out."""
        wanted: list[Manifest] = []
        unsure = False
        for file in found.manifests:
            told = await self._read(file)
            unsure = unsure or told is None
            kept = self._manifests[file][1] if file in self._manifests else []
            wanted += [manifest for manifest in kept if manifest.top in found.sources]
            for manifest in kept:
                if manifest.top not in found.sources and file.name in sources.MANIFESTS:
                    where = f"{shown(file.parent)}{file.name}: /spec/entryPoint"
                    message = f"{where}: {manifest.top!r} is not beside this manifest; name the folder it is in"
                    self._tell(Told(manifest.name, self._stands(manifest.name), "SourceMissing", message))
        covered = {manifest.top for manifest in wanted}
        inside = {file.parent.name for file in found.manifests if file.name in sources.MANIFESTS}
        for source in found.sources.values():
            if source.top not in covered | inside:
                derived = await self._derive(source)
                unsure = unsure or derived is None
                wanted += derived or []
        return wanted, unsure

    async def _read(self, file: Path) -> list[Manifest] | None:
        """The manifests of a file; None, once told, if there is something wrong with it: the last good ones stay."""
        data = await asyncio.to_thread(_bytes, file)
        before = self._manifests.get(file)
        if before is not None and before[0] == data:
            return before[1]
        kept = before[1] if before is not None else []
        near = Path(f"{shown(file.parent)}{file.name}")
        problems = await self._check(near) if self._check is not None else []
        try:
            if not problems:
                fresh = manifests.read(near)
                if fresh or file.name not in sources.MANIFESTS:
                    kept = fresh
                else:
                    problems = [f"{near}: there is no Module in it"]
        except LoadFailed as error:
            problems = [error.message]
        self._manifests[file] = (data, kept)
        for problem in problems:
            self._tell(Told(file.parent.name, self._stands(file.parent.name), "ManifestInvalid", problem))
        return None if problems else kept

    async def _derive(self, source: sources.Source) -> list[Manifest] | None:
        """The manifests that the code stands for; None, once told, if it cannot say: what serves stays."""
        digest = self._digests[source.top]
        before = self._derived.get(source.top)
        if before is not None and before[0] == digest:
            return before[1]
        found: list[Manifest] | None = None
        report = await self._inspect(self._request(digest, source.top, None, {}))
        try:
            if report.outcome is not InspectionOutcome.OK:
                raise LoadFailed(report.reason, report.message)
            if not report.candidates:
                raise LoadFailed("NoModule", f"{source.top} defines no subclass of dataplane.sdk.BaseModuleRouter")
            found = [manifests.derived(candidate, source.top) for candidate in report.candidates]
        except LoadFailed as error:
            self._fail(source.top, error, digest)
        self._derived[source.top] = (digest, found)
        return found

    async def _bring(self, manifest: Manifest) -> None:
        """Serve a module as it is asked for, unless it was tried that way before."""
        if self._config is not None:
            manifest = Manifest(manifest.name, manifest.spec.model_copy(update={"config": self._config}), manifest.file)
        digest = self._digests[manifest.top]
        if self._tried.get(manifest.name) == (digest, manifest):
            return
        self._tried[manifest.name] = (digest, manifest)
        generation = self._generations.get(manifest.name, 0) + 1
        try:
            spec = manifest.spec
            report = await self._inspect(self._request(digest, manifest.top, spec.entry_point, spec.config))
            if report.outcome is not InspectionOutcome.OK:
                raise LoadFailed(report.reason, report.message)
            refusing.check(manifest, report, refusing.held(self._others(manifest.name)))
            await self._install(manifest, generation, digest, report)
        except (LoadFailed, StartFailed) as error:
            if error.reason == refusing.CONFLICT:  # heals when the other one goes
                del self._tried[manifest.name]
            self._fail(manifest.name, error, digest)

    def _others(self, name: str) -> list[tuple[str, DesiredModule]]:
        return [(each.name, each.desired) for each in self._host.snapshot.modules.values() if each.name != name]

    async def _install(self, manifest: Manifest, generation: int, digest: str, report: InspectionReport) -> None:
        desired = manifests.desired(manifest, digest, report, guarded=self._guarded)
        wanted = Wanted(manifest.name, "dev", generation, (0, generation), digest, desired)
        served = await self._loader.load(wanted)
        await self._host.install(served)
        self._generations[manifest.name] = generation
        self._tell(Told(manifest.name, generation, served=served))

    def _build(self, wanted: Wanted) -> serving.Loaded:
        return building.build(
            wanted.desired,
            name=wanted.name,
            uid=wanted.uid,
            generation=wanted.generation,
            code_root=self.code_root,
            secrets=self._secrets,
        )

    async def _remove(self, wanted: Iterable[str], unsure: bool, found: sources.Findings) -> None:
        """Take out what is asked for no more; while something cannot be made out, only what has lost its source."""
        for name, served in list(self._host.snapshot.modules.items()):
            if name not in set(wanted) and not (unsure and served.desired.source_path in found.sources):
                self._tried.pop(name, None)
                await self._host.remove(name, served.uid)
                self._tell(Told(name, gone=True))

    async def _tidy(self) -> None:
        """Drop packed copies that are neither on disk any more nor in service."""
        used = {served.desired.digest for served in self._host.snapshot.modules.values()} | set(self._digests.values())
        for digest in set(self.roots) - used:
            await asyncio.to_thread(sources.drop, self.code_root, digest)

    def _fail(self, subject: str, error: LoadFailed | StartFailed, digest: str) -> None:
        self._tell(Told(subject, self._stands(subject), error.reason, placed(error.message, self.roots[digest])))

    def _stands(self, subject: str) -> int:
        """The generation that serves of a module, or of the modules of a source; 0: none."""
        serving = self._host.snapshot.modules.values()
        return max((each.generation for each in serving if subject in (each.name, each.desired.source_path)), default=0)

    def _request(self, digest: str, top: str, entry_point: str | None, config: Json) -> InspectionRequest:
        return InspectionRequest(
            id=f"{digest[-12:]} {entry_point or ''}",
            root=str(self.code_root / digests.folder_name(digest)),
            source_path=top,
            digest=digest,
            entry_point=entry_point,
            config=config,
        )


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # gone since it was listed; reading it will say so
        return b""


def placed(message: str, root: Path) -> str:
    """A message that begins with a place in a source, with that place as seen from the working folder."""
    place, colon, _ = message.partition(":")
    if not colon or not (root / place).is_file():
        return message
    return f"{shown(root)}{message}"


def shown(root: Path) -> str:
    """A folder as the beginning of a path seen from the working folder; empty if it is the working folder."""
    try:
        relative = root.relative_to(Path.cwd())
    except ValueError:
        return f"{root}/"
    return "" if relative == Path() else f"{relative}/"
