"""Recipes: which passes to apply to which model, and what to export and measure.

In: a YAML file or a dict, `-o` overrides, and the registry. Out: a `Recipe` with built and checked components, or the
first error with its line and column. May import: `contract`, `registry`, `data`, and no torch.
"""

from mbcompress.recipe.document import MAX_BYTES, Document, from_mapping, read
from mbcompress.recipe.model import Budget, Measure, Recipe, resolve
from mbcompress.recipe.overrides import override

__all__ = ["MAX_BYTES", "Budget", "Document", "Measure", "Recipe", "from_mapping", "override", "read", "resolve"]
