"""The run that lifecycle hooks receive, and the names of these hooks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFECYCLE = ("mbcompress_run_started", "mbcompress_pass_finished", "mbcompress_run_failed", "mbcompress_run_finished")

Listener = Callable[..., object]


@dataclass(frozen=True)
class Run:
    """A run, passed to the lifecycle hooks.

    Attributes:
        name: name of the recipe.
        recipe: the resolved recipe with all defaults and overrides; the content of recipe.yaml.
        environment: versions, processor, threads, seed and plugins; the content of environment.json.
        id: unique ID of this run, for plugins that keep state between hooks.
    """

    name: str
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
