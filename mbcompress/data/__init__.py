"""Labelled images: reading, splitting and batching them.

In: arrays, loaders, Datasets and image files. Out: `Splits` in memory, and batches of tensors. May import: `contract`.
"""
