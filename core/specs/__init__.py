"""What a run means, as frozen dataclasses. No numpy and no torch."""
