"""What holds for every test: a traceback in the log is plain, as in the running system.

The default of structlog draws each frame with its local variables, which takes seconds.
"""

import structlog

structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
