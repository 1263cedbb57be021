"""Benchmarks: each module compares with peers on the same work in the same run, and prints a table.

python -m bench.zoo --quick --json zoo.json
"""
