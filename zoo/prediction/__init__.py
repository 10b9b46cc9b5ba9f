"""From a checkpoint to answers about recordings that have no labels."""
