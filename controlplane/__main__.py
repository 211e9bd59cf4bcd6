"""``python -m controlplane serve`` runs one control plane; every setting is a flag too.

``openapi`` prints the document of its API; ``verify`` walks along an audit trail that lies there.

Called by ``modplane controlplane`` and, as a child process, by ``modplane up`` and ``modplane audit verify``.  Goes to
`controlplane.app`.
"""

import sys


def main() -> None:
    """Serve, or say how."""
    arguments = sys.argv[1:]
    if arguments == ["openapi"]:
        from controlplane import printing  # late: who serves needs none of it

        sys.exit(printing.main())
    if len(arguments) == 3 and arguments[0] == "verify":
        from controlplane import auditing  # late, as above

        sys.exit(auditing.main(*arguments[1:]))
    if arguments and arguments[0] == "serve":
        arguments = arguments[1:]
    elif arguments and not arguments[0].startswith("-"):
        sys.exit(
            f"python -m controlplane: unknown command {arguments[0]!r}; there are 'serve', 'openapi' and "
            "'verify FILE KEYS'"
        )
    # Late, so that a wrong command is told at once.
    from controlplane import app

    sys.exit(app.main(arguments))


if __name__ == "__main__":
    main()
