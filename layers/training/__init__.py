"""Trains the reference networks on data that is there without a download, and measures them and their artifacts on held-back data."""
