"""Numbers of end-to-end networks."""
