"""The controller's half of each kind of work. No torch."""
