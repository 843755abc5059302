"""Trained, calibrated models in use: packed into a bundle, loaded again, pointed at pictures."""
