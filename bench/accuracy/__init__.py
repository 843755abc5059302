"""Accuracy on data of your own: tables of the docs that need more than a machine, each run by hand."""
