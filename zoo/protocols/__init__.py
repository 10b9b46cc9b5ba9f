"""The ground: what is compared with what, and the proof that a split holds."""
