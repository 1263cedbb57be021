"""Tuning a model's kernels: tasks, the search for better decisions, and building and judging candidates."""
