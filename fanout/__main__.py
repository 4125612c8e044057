"""`python -m fanout`."""

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits with its status."""
    from fanout.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
