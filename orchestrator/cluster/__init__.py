"""Ray, except Tune: connections, resources, workers as actors, job submission."""
