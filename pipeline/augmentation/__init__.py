"""Augmented faces: operations, the similarity filter, and how many each training face gets."""
