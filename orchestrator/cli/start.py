"""The entry of the ``supsup`` command. Ctrl-C before the command is loaded ends the process without a stack trace."""

import signal


def entry_point() -> None:
    """Load the command line, run it and exit with its code."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:  # nothing has begun, so a signal may end it as it ends any other process
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from orchestrator.cli import main  # takes a third of a second

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main.entry_point()
