"""Jobs, their plan and the loop that runs them. Knows no kind of work, no Ray and no MLflow."""
