"""YAML text, read with limits and changed in place."""
