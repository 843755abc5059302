"""Every number of the report."""
