"""Pack a source: read its files once, name them by their digest, keep them immutable in the code store.

A source is ``<top>.py`` or the folder ``<top>/``; packed it lies in ``<code root>/<hex digits>/`` under the same top
name.  Left out: what `looking` leaves out (byte code, hidden and editors' files), and at the folder's top a manifest
and the folder ``tests``, so that neither a changed manifest nor a changed test is changed code.  Refused: symbolic
links, devices, names that are not UTF-8, too many or too large files.  Blocking; called in a thread by
`controlplane.discovery.sources`.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane import errors
from controlplane.discovery import looking
from schemas import digests

FILES_MAX: Final = 5_000
FILE_MAX: Final = 32 << 20
TOTAL_MAX: Final = 128 << 20
"""Bytes of all files of one source."""

MANIFESTS: Final = frozenset({"module.yaml", "module.yml", "module.json"})
"""At the top of a package folder: a manifest, no code."""

TESTS: Final = "tests"
"""At the top of a package folder: its tests, no code."""

_TRIES: Final = 3

Contents = list[tuple[str, bytes]]
"""Name and bytes of each file."""

Fingerprint = tuple[tuple[str, int, int, int, int], ...]
"""Path, size, mtime and ctime in ns, inode of each file: changes with every ordinary change of the source."""


class NotKept(errors.SourceInvalid):
    """The code was read, but our own disk did not take it: it is tried again, whether the source changes or not."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a source as they stood at one moment, none of them read."""

    place: Path
    fingerprint: Fingerprint

    @property
    def newest(self) -> int:
        """When the source was last touched, in ns of the wall clock."""
        return max((ctime for _, _, _, ctime, _ in self.fingerprint), default=0)


def locate(modules_path: Path, path: str) -> Path | None:
    """The file or folder that a source path means; None if there is none, or it would lie outside."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") or part.startswith(".") or "\\" in part for part in parts):
        return None
    folder = modules_path.joinpath(*parts)
    single = folder.with_name(f"{folder.name}.py")
    place = folder if folder.is_dir() else single if single.is_file() else None
    if place is not None:
        _refuse_links(modules_path, place)
    return place


def listing(place: Path) -> Listing:
    """Every file that belongs to the source at ``place``; errors.SourceInvalid for what cannot be packed."""
    found = sorted(_entries(place, place)) if place.is_dir() else [_entry(place, place.name)]
    if len(found) > FILES_MAX:
        raise errors.SourceInvalid(f"{place}: {len(found)} files are more than {FILES_MAX}; ship less with the module")
    total = sum(size for _, size, _, _, _ in found)
    if total > TOTAL_MAX:
        raise errors.SourceInvalid(f"{place}: {total >> 20} MiB are more than {TOTAL_MAX >> 20}; ship less data")
    if not any(name.endswith(".py") for name, *_ in found):
        raise errors.SourceInvalid(f"{place}: there is no Python file; put the module's code there")
    return Listing(place, tuple(found))


def pack(place: Path, code_root: Path) -> tuple[str, Listing]:
    """Bring the source at ``place`` into the code store; its digest and the listing that it holds for."""
    digest, found, contents = read(place)
    keep(code_root, digest, contents)
    return digest, found


def read(place: Path) -> tuple[str, Listing, Contents]:
    """The digest of the source at ``place``, the listing that it holds for, and what is to be kept.

    A source that changes while it is read is read again; errors.SourceInvalid if it does not come to rest.
    """
    for _ in range(_TRIES):
        before = listing(place)
        contents = _read(before)
        if contents is not None and listing(place) == before:
            return digests.source_digest(contents), before, contents
    message = f"{place}: the files changed while they were read; try again when they are quiet"
    raise errors.SourceInvalid(message, retryable=True)


def kept(code_root: Path, digest: str) -> bool:
    """Whether the code store holds ``digest`` whole; a folder with other contents is set aside."""
    folder = code_root / digests.folder_name(digest)
    if not folder.is_dir():
        return False
    files = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    contents = [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]
    if digests.source_digest(contents) == digest:
        return True
    shutil.rmtree(folder)
    return False


def _refuse_links(modules_path: Path, place: Path) -> None:
    current = place
    while current not in (modules_path, current.parent):
        if current.is_symlink():
            raise errors.SourceInvalid(f"{current}: a symbolic link; put the files themselves into the modules path")
        current = current.parent


def _entries(folder: Path, root: Path) -> Iterator[tuple[str, int, int, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if looking.is_left_out(entry.name) or (folder == root and entry.name in MANIFESTS):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if not (folder == root and entry.name == TESTS):
                    yield from _entries(path, root)
                continue
            yield _entry(path, f"{root.name}/{path.relative_to(root).as_posix()}")


def _entry(path: Path, name: str) -> tuple[str, int, int, int, int]:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not an ordinary file"
        raise errors.SourceInvalid(f"{path}: {what}; a module's source is made of ordinary files")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise errors.SourceInvalid(f"{path!r}: the name is not UTF-8; rename the file") from None
    if status.st_size > FILE_MAX:
        raise errors.SourceInvalid(f"{path}: larger than {FILE_MAX >> 20} MiB; load such data at start-up instead")
    return (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _read(found: Listing) -> Contents | None:
    """(name, content) of each file; None if one went or changed its size meanwhile."""
    contents: Contents = []
    for name, size, *_ in found.fingerprint:
        path = found.place if found.place.name == name else found.place.parent / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.SourceInvalid(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
        if len(content) != size:
            return None
        contents.append((name, content))
    return contents


def keep(code_root: Path, digest: str, contents: Contents) -> None:
    """Write the files beside and rename them into place, so that a folder in the store is always whole.

    NotKept when the disk of the code store does not take them.
    """
    final = code_root / digests.folder_name(digest)
    if final.is_dir():
        return
    try:
        _put(code_root, final, contents)
    except OSError as error:
        raise NotKept(
            f"{code_root}: the packed code cannot be written: {error.strerror}; free space, or repair its rights"
        ) from error


def _put(code_root: Path, final: Path, contents: Contents) -> None:
    try:
        building = Path(tempfile.mkdtemp(prefix=".packing-", dir=code_root))
    except FileNotFoundError:
        code_root.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".packing-", dir=code_root))
    try:
        for name, content in contents:
            target = building / name
            if target.parent != building:
                target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o444)
        building.chmod(0o755)
        try:
            building.rename(final)
        except OSError:
            if not final.is_dir():
                raise errors.SourceInvalid(f"{final}: the packed source could not be put into the code store") from None
            shutil.rmtree(building, ignore_errors=True)  # somebody else was quicker
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
