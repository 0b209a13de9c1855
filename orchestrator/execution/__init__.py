"""Jobs and the loop that hands them out. Knows no kind of work, no Ray and no MLflow."""
