"""Stage 1: one encoder from the single channels of many stores."""
