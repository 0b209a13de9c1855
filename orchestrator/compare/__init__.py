"""Runs compared over seeds: means, paired differences, tables and a figure for papers."""
