"""The backends: one plugin a file."""
