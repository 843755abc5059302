"""Uncertainty: ensembles, SWAG, quantiles, views, and conformal calibration."""
