"""Ray, all of it but Tune: connecting, resources, workers as actors, jobs, what travels."""
