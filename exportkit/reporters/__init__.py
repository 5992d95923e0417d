"""The reporters: one plugin a file."""
