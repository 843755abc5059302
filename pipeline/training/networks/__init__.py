"""Whole networks, from pixels to numbers or classes: backbones, heads, and how they are trained."""
