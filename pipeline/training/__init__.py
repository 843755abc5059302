"""Training: models on embeddings, end-to-end networks, and the search for settings."""
