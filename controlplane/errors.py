"""Everything that the control plane refuses or fails with, as one tree.

    ModplaneError                    a message for people; ``retryable``: whether trying again can help
    ├── StoreError
    │   ├── StoreUnusable            the database cannot be opened: the message says what to do
    │   ├── StoreClosed              the store was closed while somebody still used it
    │   └── StoreBusy                somebody else holds the database for too long, the disk is full (retryable)
    ├── NotFound                     no object of that kind and name
    ├── AlreadyExists                the name is taken
    ├── Conflict                     the object changed since it was read (retryable after reading anew)
    ├── StillNeeded              others ask for what is to be deleted: who, in the message
    ├── OwnershipConflict            another manager owns the field groups: ``owners``
    ├── Compacted                    the watch log does not reach back that far: list anew
    ├── Fenced                       a newer leader wrote: resign
    ├── Invalid                      the input is wrong: ``violations``, every one at once
    ├── SourceNotFound               no code lies below that path
    ├── SourceInvalid                code lies there, but cannot be packed or imported
    ├── PortInUse                    an address is taken
    └── Unreachable                  a peer does not answer (retryable)

Raised by every room of the plane; the doors (`controlplane.api`, `controlplane.cli`) turn them into answers.
Pure: imports only the words of `schemas`.
"""
# ruff: noqa: N818 (the names say what happened; every one of them is an error, and `except errors.Conflict` reads so)

from collections.abc import Mapping, Sequence

from schemas.problems import Violation


class ModplaneError(Exception):
    """Root of the tree; ``str()`` says what happened, where, and what to do next."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        """Whether the same call may succeed later."""


class StoreError(ModplaneError):
    """The database did not do what was asked."""


class StoreUnusable(StoreError):
    """The database cannot be opened or is not ours to open."""


class StoreClosed(StoreError):
    """The store was closed."""

    def __init__(self, message: str = "the store is closed: the control plane is shutting down") -> None:
        super().__init__(message)


class StoreBusy(StoreError):
    """The database refused for a passing reason: locked by somebody, full disk, lost connection."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class NotFound(ModplaneError):
    """No such object."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist")
        self.kind = kind
        self.name = name


class AlreadyExists(ModplaneError):
    """The name is taken by a living object."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} exists already; replace, patch or apply it instead")
        self.kind = kind
        self.name = name


class Conflict(ModplaneError):
    """The object is not what the writer read: another uid, another revision, or being deleted."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class StillNeeded(ModplaneError):
    """Others ask for what is to be deleted, and would be shut."""

    def __init__(self, kind: str, name: str, needing: str) -> None:
        super().__init__(
            f"{kind} {name!r} is required by {needing}, whose routes would be closed without it; "
            "take it out there first, or delete it with force"
        )


class OwnershipConflict(ModplaneError):
    """Server-side apply wants field groups that other managers own."""

    def __init__(self, message: str, owners: Mapping[str, str]) -> None:
        super().__init__(message)
        self.owners = dict(owners)
        """Field group, such as ``spec.routing`` → the manager that owns it."""


class Compacted(ModplaneError):
    """Changes after the asked revision are no longer kept."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the change log starts at revision {oldest}; list again and watch from there")
        self.oldest = oldest
        """The oldest revision after which `follow` still works."""


class Fenced(ModplaneError):
    """A write came under an epoch that is not the lease's any more: its writer no longer leads."""

    def __init__(self, epoch: int, current: int) -> None:
        super().__init__(
            f"this process led under epoch {epoch}, but the lease stands at {current}; nothing was written"
        )
        self.epoch = epoch
        self.current = current


class Invalid(ModplaneError):
    """The input breaks rules; every violation is listed."""

    def __init__(self, violations: Sequence[Violation], message: str = "") -> None:
        listed = "; ".join(
            f"{violation.pointer}: {violation.message}" if violation.pointer else violation.message
            for violation in violations
        )
        super().__init__(message or listed or "invalid")
        self.violations = list(violations)


class SourceNotFound(ModplaneError):
    """No code lies below the modules path under that name."""

    def __init__(self, path: str, message: str = "") -> None:
        super().__init__(
            message
            or f"no source {path!r} below the modules path; put {path}.py or a folder {path}/ there and try again"
        )
        self.path = path


class SourceInvalid(ModplaneError):
    """A module's code cannot be packed or imported."""


class PortInUse(ModplaneError):
    """An address is taken by another process."""

    def __init__(self, host: str, port: int, option: str = "") -> None:
        hint = f"; stop what listens there or choose another port with {option} (0 picks a free one)" if option else ""
        super().__init__(f"{host}:{port} is already in use{hint}")
        self.host = host
        self.port = port


class Unreachable(ModplaneError):
    """A peer (NATS, the database server, the API) does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)
