"""Tuning: what was measured of kernels on devices, and how it is measured.

`record` and `database` keep results, `advice` chooses by them while a model is compiled; `program` builds the program
that measures candidates, and `runners` run it. The search itself is `graphopt.tuning`.
"""
