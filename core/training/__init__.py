"""Training cohorts of supermasks: the loop, its engines, optimizers, checkpoints and transfer."""
