"""Task inference: superpositions, banks of masks, objectives, algorithms, evaluation."""
