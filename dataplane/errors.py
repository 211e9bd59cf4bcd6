"""Every error that the data plane raises on purpose.

::

    DataPlaneError
    ├── LoadFailed      the code, its type or its routes are wrong: it will fail again (rule 18: quarantine)
    ├── StartFailed     a module's start did not end well: it may heal (retried with back-off)
    ├── DocumentRefused a desired document that cannot be believed or read; the last good one stays
    ├── LastGoodRefused the file with the last good state cannot be believed: never served, the worker waits for NATS
    └── SaveFailed      the last good state cannot be written: nothing new is acknowledged (retried with back-off)

Raised by `dataplane.runtime` and `dataplane.agent`; caught by the agent, which turns each into a line of the
worker's report.  A request never sees one: the gateway answers with problem documents.
"""


class DataPlaneError(Exception):
    """What went wrong, where, and whether another try can help."""

    def __init__(self, reason: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase, for programs, such as ``ImportFailed``."""
        self.message = message
        """For people: what happened, where, what to do next."""
        self.retryable = retryable


class LoadFailed(DataPlaneError):  # noqa: N818 – named for what happened, as in the rest of the house
    """A module that cannot be built, today or tomorrow, from this code, configuration and host."""


class StartFailed(DataPlaneError):  # noqa: N818 – the same
    """A module that was built but did not start: its lifespan failed or took too long."""

    def __init__(self, reason: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(reason, message, retryable=retryable)


class DocumentRefused(DataPlaneError):  # noqa: N818 – the same
    """A desired document with a wrong digest, an unknown schema or a payload that cannot be read."""


class LastGoodRefused(DataPlaneError):  # noqa: N818 – the same
    """A file of last good state that is damaged, of another worker, or of a format that this code does not read."""


class SaveFailed(DataPlaneError):  # noqa: N818 – the same
    """A file of last good state that cannot be written now; what it held before is still there."""

    def __init__(self, message: str) -> None:
        super().__init__("NotSaved", message, retryable=True)
