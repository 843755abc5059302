"""The speed claims of the docs, measured again on this machine: `python -m bench`."""
