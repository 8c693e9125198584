"""The way in: `streamsvc` and `python -m streamsvc`.

Worker processes import this module before they seal a segment, so it imports nothing until it is called.
"""


def main() -> None:
    """Run the command line and leave with its exit code."""
    import sys  # noqa: PLC0415

    from streamsvc.cli import main as command_line  # noqa: PLC0415

    sys.exit(command_line())


if __name__ == "__main__":
    main()
