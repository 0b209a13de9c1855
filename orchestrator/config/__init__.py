"""Reads and checks sweep files."""
