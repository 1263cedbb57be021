"""Models inside somebody's firmware: C sources and objects without a run time, a heap or an operating system.

`c_expressions` and `c_statements` print kernels as C99, which call the functions of `c_products`, `helium` and `words`;
`compile` puts a bundle together, `build` and `emulated` compile and run it.
"""
