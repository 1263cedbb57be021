"""What `quantize` is made of; `graphopt.quantization` calls it, in this order.

`layers` tells which nodes can be quantised by a `scheme`, `check_weights` whether their numbers can. After calibration
`placement` decides which values become integers, and `insert` writes QuantizeLinear and DequantizeLinear there, with
scales of `parameters`; `products`, `recurrent`, `lookups` and, for ranges found at run time, `dynamic` do the layers
themselves, with integers of `weights`. What each operator needs is data, in `operators`. `graphopt.passes.rounding`
then fits the weights, and `narrow_parameters` shrinks what is kept of them. `alternatives` puts quantised forms beside
the float layers, for trials of one layer at a time; `islands` finds what still reads floats.
"""
