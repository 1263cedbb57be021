"""Models inside somebody's firmware: C sources and objects without a run time, a heap or an operating system.

`c_text` prints kernels as C99, `compile` puts a bundle together, `build` and `emulated` compile and run it.
"""
