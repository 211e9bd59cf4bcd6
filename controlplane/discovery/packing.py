"""Pack a source: read its files once, name them by their digest, keep them immutable in the code store.

A source is ``<top>.py`` or the folder ``<top>/``; packed it lies in ``<code root>/<hex digits>/`` under the same top
name.  Left out: what `looking` leaves out (byte code, hidden and editors' files), and at the folder's top a manifest
and the folder ``tests``, so that neither a changed manifest nor a changed test is changed code.  Refused: symbolic
links, devices, names that are not UTF-8, too many or too large files.  Blocking; called in a thread by
`controlplane.discovery.sources`, for a thousand sources at once: so what is done for each file is done by `os`, on
plain text, and `pathlib` stays at the doors.
"""

import errno
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

_NOTHING_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
"""What the disk says of a place where nothing is; anything else is an error."""

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
    top = str(modules_path)
    folder = os.path.join(top, path)
    single = f"{folder}.py"
    place = folder if stat.S_ISDIR(_mode(folder)) else single if stat.S_ISREG(_mode(single)) else None
    if place is None:
        return None
    _refuse_links(top, place)
    return Path(place)


def listing(place: Path) -> Listing:
    """Every file that belongs to the source at ``place``; errors.SourceInvalid for what cannot be packed."""
    where = str(place)
    status = os.lstat(where)
    is_folder = stat.S_ISDIR(status.st_mode)
    found = sorted(_entries(where, place.name)) if is_folder else [_entry(where, place.name, status)]
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
    if not _is_folder(folder):
        return False
    files = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    contents = [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]
    if digests.source_digest(contents) == digest:
        return True
    shutil.rmtree(folder)
    return False


def _mode(path: str) -> int:
    """Mode of what lies there, behind links, too; 0 if nothing does.  OSError when the disk does not say."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise
    except ValueError:  # a zero byte: no name of anything
        return 0


def _is_folder(place: Path) -> bool:
    return stat.S_ISDIR(_mode(str(place)))


def _refuse_links(top: str, place: str) -> None:
    while place != top:
        if stat.S_ISLNK(os.lstat(place).st_mode):
            raise errors.SourceInvalid(f"{place}: a symbolic link; put the files themselves into the modules path")
        place = os.path.dirname(place)


def _entries(folder: str, name: str, *, inside: bool = False) -> Iterator[tuple[str, int, int, int, int]]:
    """The files in ``folder``, which is ``name`` in the source; ``inside``: it is not the source's own folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if looking.is_left_out(entry.name) or (not inside and entry.name in MANIFESTS):
                continue
            if entry.is_dir(follow_symlinks=False):
                if inside or entry.name != TESTS:
                    yield from _entries(entry.path, f"{name}/{entry.name}", inside=True)
                continue
            yield _entry(entry.path, f"{name}/{entry.name}", entry.stat(follow_symlinks=False))


def _entry(path: str, name: str, status: os.stat_result) -> tuple[str, int, int, int, int]:
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not an ordinary file"
        raise errors.SourceInvalid(f"{path}: {what}; a module's source is made of ordinary files")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise errors.SourceInvalid(f"{Path(path)!r}: the name is not UTF-8; rename the file") from None
    if status.st_size > FILE_MAX:
        raise errors.SourceInvalid(f"{path}: larger than {FILE_MAX >> 20} MiB; load such data at start-up instead")
    return (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _read(found: Listing) -> Contents | None:
    """(name, content) of each file; None if one went or changed its size meanwhile."""
    contents: Contents = []
    beside = os.path.dirname(found.place)
    for name, size, *_ in found.fingerprint:
        path = os.path.join(beside, name)
        try:
            content = _content(path, size + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.SourceInvalid(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
        if len(content) != size:
            return None
        contents.append((name, content))
    return contents


def _content(path: str, most: int) -> bytes:
    """What a file holds, up to ``most`` bytes."""
    opened = os.open(path, os.O_RDONLY)
    try:
        return os.read(opened, most)
    finally:
        os.close(opened)


def keep(code_root: Path, digest: str, contents: Contents) -> None:
    """Write the files beside and rename them into place, so that a folder in the store is always whole.

    NotKept when the disk of the code store does not take them.
    """
    final = code_root / digests.folder_name(digest)
    if _is_folder(final):
        return
    try:
        _put(code_root, final, contents)
    except OSError as error:
        raise NotKept(
            f"{code_root}: the packed code cannot be written: {error.strerror}; free space, or repair its rights"
        ) from error


def _put(code_root: Path, final: Path, contents: Contents) -> None:
    try:
        building = tempfile.mkdtemp(prefix=".packing-", dir=code_root)
    except FileNotFoundError:
        code_root.mkdir(parents=True, exist_ok=True)
        building = tempfile.mkdtemp(prefix=".packing-", dir=code_root)
    try:
        for name, content in contents:
            target = os.path.join(building, name)
            if "/" in name:
                os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                os.fchmod(file.fileno(), 0o444)
                file.write(content)
        os.chmod(building, 0o755)  # noqa: S103 (workers read it, whoever they run as)
        try:
            os.rename(building, final)
        except OSError:
            if not _is_folder(final):
                raise errors.SourceInvalid(f"{final}: the packed source could not be put into the code store") from None
            shutil.rmtree(building, ignore_errors=True)  # somebody else was quicker
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
