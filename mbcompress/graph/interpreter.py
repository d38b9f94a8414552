"""Run a graph with a forward hook on nodes, like `nn.Module.register_forward_hook` for modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor
    from torch.fx import GraphModule, Node


@torch.no_grad()
def run_with_hook(
    graph: GraphModule,
    images: Tensor,
    nodes: Collection[Node],
    hook: Callable[[Node, tuple[Any, ...], Any], Any],
) -> None:
    """Run `graph` on (N, C, H, W) images and call `hook(node, args, output)` after each of `nodes`.

    If the hook returns a value other than None, it replaces the output for the following nodes.
    """
    wanted = set(nodes)

    class HookedInterpreter(Interpreter):
        def run_node(self, n: Node) -> Any:
            output = super().run_node(n)
            if n not in wanted:
                return output
            args, _ = self.fetch_args_kwargs_from_env(n)
            replaced = hook(n, args, output)
            return output if replaced is None else replaced

    HookedInterpreter(graph).run(images)
