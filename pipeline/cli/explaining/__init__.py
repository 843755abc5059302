"""`vec2age explain`: of classifiers, of models on embeddings, and of end-to-end networks."""
