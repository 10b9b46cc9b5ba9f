"""Stores as windows: trial tables, targets, cuts, and where decoded signals lie."""
