"""Answers while a recording is being made."""
