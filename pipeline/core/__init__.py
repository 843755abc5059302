"""What every other room stands on: errors, tables, files, seeds, progress, and the machine."""
