"""Hostile input by the thousand: recipes, weights, passes, ONNX files, images and archives that are nearly right.

`run.py` carries it out. What a case is made of follows from the seed, the suite and the number of the case alone.
"""
