"""Masks as packed bits: codes, digests, and sums over them. No torch."""
