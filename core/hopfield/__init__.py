"""HopSupSup: masks stored in a Hopfield memory of fixed size, and recovered from it."""
