"""Trained models as files: cards, folders, input checks, downloads."""
