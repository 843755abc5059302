"""Images to numbers or classes, end to end."""
