"""Scenario NNs: the stream of batches, the allocation of masks, training without task ids."""
