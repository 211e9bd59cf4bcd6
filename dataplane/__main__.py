"""``python -m dataplane``: one process of the data plane; ``inspect`` is the control plane's inspection child."""

import sys


def main(arguments: list[str]) -> int:
    """Start what the first argument names; 2 if it names nothing."""
    if arguments[:1] == ["inspect"]:
        from dataplane.inspection import zygotes  # late: a worker needs none of it

        return zygotes.main()
    sys.stderr.write("usage: python -m dataplane inspect\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
