"""Networks as modules and as graphs of ATen operators: exporting, folding, counting, rewriting. Imports torch.

In: an `nn.Module` or a `torch.fx` graph. Out: the same function in another form, or a count. May import: `contract`.
"""
