"""The paper's tables: what it claims, the grid of runs, the report."""
