"""Models that can be swapped for one another under any protocol."""
