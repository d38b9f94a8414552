"""Recipes: read a YAML file, apply overrides, resolve it against the registry into a plan. Imports no torch."""

from mbcompress.recipe.document import MAX_BYTES, Document, from_mapping, read
from mbcompress.recipe.overrides import override
from mbcompress.recipe.plan import Budget, Measure, Plan
from mbcompress.recipe.resolve import resolve

__all__ = ["MAX_BYTES", "Budget", "Document", "Measure", "Plan", "from_mapping", "override", "read", "resolve"]
