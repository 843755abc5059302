"""Optuna's search for better settings, shared and resumable."""
