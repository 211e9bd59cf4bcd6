"""Log set-up of the tests: a traceback is plain, as in the running system.

The default of structlog draws each frame with its local variables, which takes seconds.
"""

import structlog


def configure() -> None:
    """Take the default set-up with plain tracebacks."""
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            *structlog.get_config()["processors"][:-1],
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
