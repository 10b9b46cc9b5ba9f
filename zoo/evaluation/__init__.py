"""Stage 2 under a protocol: folds, results, how they were made, comparisons."""
