"""``python -m dataplane``: one process of the data plane.

``worker`` (the default) serves modules; ``inspect`` is the control plane's inspection child, which has to start with
as few imports as possible; ``dev`` serves an author's folder; ``openapi`` prints the document of a worker's own pages.
"""

import sys


def main(arguments: list[str]) -> int:
    """Start what the first argument names; returns the exit code."""
    if arguments[:1] == ["inspect"]:
        from dataplane.inspection import zygotes  # late: a worker needs none of it

        return zygotes.main()
    if arguments[:1] == ["dev"]:
        from dataplane.workshop import developing  # late: a worker needs none of it

        return developing.main(arguments[1:])
    if arguments[:1] == ["openapi"]:
        from dataplane import printing  # late: a worker needs none of it

        return printing.main()
    from dataplane import app  # late: the inspection child needs none of it

    return app.main(arguments[1:] if arguments[:1] == ["worker"] else arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
