"""Backbones: networks that turn an image into features, their weights, and what they see of a crop."""
