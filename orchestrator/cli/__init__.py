"""The doors: commands, what they print, and the two modules that Ray enters by."""
