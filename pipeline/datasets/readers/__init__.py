"""Readers: one module for each data set, or for several that share a format."""
