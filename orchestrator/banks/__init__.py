"""Banks as things to share: merged, forgotten from, pushed, pulled, described and signed."""
