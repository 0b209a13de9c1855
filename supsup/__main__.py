"""``python -m supsup``, and the command ``supsup``."""

import supsup  # noqa: F401  # our packages first


def entry_point() -> None:
    """Run the command line."""
    from orchestrator.cli.start import entry_point as enter

    enter()


if __name__ == "__main__":
    entry_point()
