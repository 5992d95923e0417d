"""The formats: one plugin a file."""
