"""The command line, its output, and the two entry points for Ray."""
