"""One look at the modules path: every file and folder with what the disk says of it, none of them read.

Left out wherever they lie: hidden files, byte code, and what editors put beside a file while they save it.  Symbolic
links are seen and never followed, so no look leaves the modules path.  Two looks that say the same about a source,
some milliseconds apart, mean that nobody is writing it.  `look` blocks and is called in a thread; the rest is pure.
"""

import enum
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

FOLDERS_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules"})

_LEFT_OUT: Final = re.compile(r"\..*|.*~|.*\.py[cod]|#.*#|.*\.sw[nopx]|.*___jb_(tmp|old)___|4913|flycheck_.*")
"""Hidden, backups, byte code, and temporary files of Emacs, Vim and JetBrains."""

Stamp: TypeAlias = tuple[int, int, int, int, int]
"""Mode, size, mtime and ctime in ns, inode: changes with every ordinary change of a file."""


class Root(enum.Enum):
    """How the modules path itself is."""

    THERE = "is there"
    EMPTY = "is empty"
    MISSING = "is missing"
    UNREADABLE = "cannot be read"


@dataclass(slots=True)
class Tree:
    """What one look saw; paths are relative to the modules path, with ``/``."""

    root: Root
    why: str = ""
    """What the disk said, when the modules path is missing or cannot be read."""
    files: dict[str, Stamp] = field(default_factory=dict)
    """Files, links and devices."""
    folders: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Device and inode of each folder; the modules path itself is ``""``."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be read, and why."""
    newest: int = 0
    """When anything was last touched, in ns of the wall clock."""

    def is_link(self, path: str) -> bool:
        """Whether a symbolic link lies at ``path``."""
        return path in self.files and stat.S_ISLNK(self.files[path][0])


def is_left_out(name: str) -> bool:
    """Whether a file or folder of that name is nothing that an author ships."""
    return name in FOLDERS_LEFT_OUT or _LEFT_OUT.fullmatch(name) is not None


def identity(modules_path: Path) -> tuple[int, int] | None:
    """Device and inode of the modules path; None: it is not there.  Blocks."""
    try:
        status = modules_path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def look(modules_path: Path) -> Tree:
    """Look once; what cannot be read is told, not raised."""
    try:
        status = modules_path.stat()
        names = os.listdir(modules_path)
    except (FileNotFoundError, NotADirectoryError) as error:
        return Tree(Root.MISSING, error.strerror or str(error))
    except OSError as error:
        return Tree(Root.UNREADABLE, error.strerror or str(error))
    tree = Tree(Root.THERE if any(not is_left_out(name) for name in names) else Root.EMPTY)
    tree.folders[""] = (status.st_dev, status.st_ino)
    tree.newest = status.st_ctime_ns
    waiting = [("", modules_path)]
    while waiting:
        waiting += _enter(tree, *waiting.pop())
    return tree


def moved(before: Tree, after: Tree) -> set[str]:
    """The files that came, went or changed between two looks, and folders that could be read only in one."""
    files = {path for path, _ in before.files.items() ^ after.files.items()}
    return files | {path for path, _ in before.unreadable.items() ^ after.unreadable.items()}


def places(paths: Iterable[str]) -> set[str]:
    """Everything that a change of ``paths`` may concern: the files, each folder above them, and ``x`` for ``x.py``."""
    found: set[str] = set()
    for path in paths:
        found |= {path, path.removesuffix(".py")}
        while (path := path.rpartition("/")[0]) and path not in found:
            found.add(path)
    return found


def without(tree: Tree, sources: Iterable[str]) -> Tree:
    """The tree as if nothing lay at ``sources``, so that the next comparison finds all of them changed."""
    left = set(sources)
    files = {path: stamp for path, stamp in tree.files.items() if not left & set(_upwards(path))}
    return Tree(tree.root, tree.why, files, tree.folders, tree.unreadable)


def _upwards(path: str) -> Iterator[str]:
    """A file, ``x`` for ``x.py``, and each folder above it."""
    yield path
    yield path.removesuffix(".py")
    while path := path.rpartition("/")[0]:
        yield path


def _enter(tree: Tree, folder: str, place: Path) -> list[tuple[str, Path]]:
    """Take down what lies in one folder; the folders inside are still to be entered."""
    inside = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if is_left_out(entry.name):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                tree.newest = max(tree.newest, status.st_ctime_ns)
                if stat.S_ISDIR(status.st_mode):
                    tree.folders[path] = (status.st_dev, status.st_ino)
                    inside.append((path, Path(entry.path)))
                else:
                    tree.files[path] = _stamp(status)
    except OSError as error:
        if folder and not isinstance(error, FileNotFoundError | NotADirectoryError):
            tree.unreadable[folder] = error.strerror or str(error)
    return inside


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
