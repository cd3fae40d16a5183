"""What a finished run says of itself: results, plots, drift, n-gram baselines, MLflow."""
