"""``python -m controlplane serve`` runs one control plane; every setting is a flag too.

``openapi`` prints the document of its API.

Called by ``modplane controlplane`` and, as a child process, by ``modplane up``.  Goes to `controlplane.app`.
"""

import sys


def main() -> None:
    """Serve, or say how."""
    arguments = sys.argv[1:]
    if arguments == ["openapi"]:
        from controlplane import printing  # late: who serves needs none of it

        sys.exit(printing.main())
    if arguments and arguments[0] == "serve":
        arguments = arguments[1:]
    elif arguments and not arguments[0].startswith("-"):
        sys.exit(f"python -m controlplane: unknown command {arguments[0]!r}; there are 'serve' and 'openapi'")
    # Late, so that a wrong command is told at once.
    from controlplane import app

    sys.exit(app.main(arguments))


if __name__ == "__main__":
    main()
