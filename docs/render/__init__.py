"""Pages of the documentation, made from schemas, docstrings and the command line's parser."""
