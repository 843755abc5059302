"""Whole networks, from pixels to numbers: backbones, heads, and how they are trained."""
