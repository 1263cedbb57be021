"""How quantised weights are fitted to what a layer should return; `graphopt.refinement` calls it, after `quantize`.

`round_weights` runs the graph as floats and quantised at once. In front of a layer `search_range` may narrow the range
of its operand, by what `readers` make of the error. The operands of a `layer` are read as rows (`matrices`) and summed
with the wanted results into `moments`, and one of the `methods` rounds the rows to a `grid`: to nearest, one after the
other (`second_order`, then `descent`), or as is `learned` by gradients. The bias takes what is left on the mean. Where
samples do not correct biases, `expected_bias` does, by the `expectations` of what layers read. Either returns an
`effect` for each layer.
"""
