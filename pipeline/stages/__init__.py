"""One module per stage of dvc.yaml: read files, call the library, write files."""
