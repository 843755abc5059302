"""The rendered sample: faces of known age that nobody has to download."""
