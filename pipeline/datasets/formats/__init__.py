"""File formats of label files, read as if an enemy had written them."""
