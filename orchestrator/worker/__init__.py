"""The worker's half of each kind of work. Needs torch; reads no sweep file."""
