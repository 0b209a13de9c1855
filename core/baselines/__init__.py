"""Methods to hold supermasks against: weights that are trained. One file each; ``method`` has what they share."""
