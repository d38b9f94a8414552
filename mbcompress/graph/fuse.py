"""Fuse BatchNorm into the preceding convolution, in modules and in graphs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from mbcompress.graph.memory_format import noise
from mbcompress.graph.nodes import get_tensor, node_args

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

TOLERANCE = 1e-4
"""Maximum change of the logits due to rounding, relative to the largest logit."""

aten = torch.ops.aten


def fuse_conv_bn(model: nn.Module, example: Tensor, *, inplace: bool = True) -> nn.Module:
    """Return a copy of `model` with BatchNorm fused into convolutions, for faster inference and export.

    Fuses adjacent layers in `nn.Sequential`. Returns `model` itself if the outputs of the copy differ, for example
    because the model calls such a layer separately, or reuses a tensor changed by an in-place activation.

    Args:
        model: in eval mode; not changed.
        example: (N, C, H, W) float32 on the model's device; only its shape is used.
        inplace: whether to keep in-place activations, which slow down exporters.
    """

    def changes(module: nn.Module) -> bool:
        return _has_pairs(module) or (_is_inplace(module) and not inplace)

    if not any(map(changes, model.modules())):
        return model
    fused = copy.deepcopy(model)
    for module in filter(changes, list(fused.modules())):
        if isinstance(module, nn.Sequential):
            _fuse_pairs(module)
        else:
            module.inplace = False  # type: ignore[assignment]
    images = noise(example.shape).to(example.device)
    with torch.no_grad():
        before, after = model(images.clone()), fused(images.clone())
    tolerance = TOLERANCE * max(1.0, float(before.abs().max()))
    return fused if torch.allclose(before, after, rtol=0, atol=tolerance) else model


def fold_batch_norms(graph: GraphModule) -> None:
    """Fuse each BatchNorm of a graph into the preceding convolution, in place."""
    for node in list(graph.graph.nodes):
        if node.target == aten.batch_norm.default and _is_foldable(node):
            _fold_batch_norm(graph, node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def fold_weights(
    graph: GraphModule, weight: Node, bias: Node | None, norm: Node, dtype: torch.dtype | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias of a convolution fused with the following BatchNorm in eval mode.

    Args:
        weight, bias: get_attr nodes.
        norm: the `aten.batch_norm` node.
        dtype: dtype of computation and result; None for the tensors' dtype.
    """
    _, scale, shift, mean, variance, _, _, eps, *_ = node_args(norm)

    def tensor(node: Node | None) -> Any:
        return None if node is None else get_tensor(graph, node).to(dtype)

    return fuse_conv_bn_weights(
        tensor(weight), tensor(bias), tensor(mean), tensor(variance), eps, tensor(scale), tensor(shift)
    )


def _is_inplace(module: nn.Module) -> bool:
    return getattr(module, "inplace", False) is True


def _has_pairs(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and any(map(_is_pair, module, list(module)[1:]))


def _is_pair(layer: nn.Module, following: nn.Module) -> bool:
    """Whether these are Conv2d and BatchNorm2d, without subclasses and hooks, which could change the outputs."""
    if type(layer) is not nn.Conv2d or type(following) is not nn.BatchNorm2d:
        return False
    return following.running_mean is not None and not (layer._forward_hooks or following._forward_hooks)


def _fuse_pairs(sequential: nn.Sequential) -> None:
    for index in range(len(sequential) - 1):
        layer, following = sequential[index], sequential[index + 1]
        if _is_pair(layer, following):
            assert isinstance(layer, nn.Conv2d)
            assert isinstance(following, nn.BatchNorm2d)
            sequential[index] = fuse_conv_bn_eval(layer, following)
            sequential[index + 1] = nn.Identity()


def _is_foldable(norm: Node) -> bool:
    """Whether BatchNorm is in eval mode, and its convolution and the convolution's weights have no other users."""
    x, *constants, training = node_args(norm)[:6]
    if training or x.target != aten.conv2d.default or len(x.users) != 1:
        return False
    weights = [node for node in x.args[1:3] if node is not None]
    read = [node for node in constants if node is not None] + weights
    return all(node.op == "get_attr" for node in read) and all(len(node.users) == 1 for node in weights)


def _fold_batch_norm(graph: GraphModule, norm: Node) -> None:
    convolution = node_args(norm)[0]
    weight, bias = (*convolution.args[1:3], None)[:2]
    folded_weight, folded_bias = fold_weights(graph, weight, bias, norm)
    owner, _, attribute = str(weight.target).rpartition(".")
    setattr(graph.get_submodule(owner), attribute, folded_weight)
    target = f"{owner}.bias".lstrip(".") if bias is None else str(bias.target)
    graph.get_submodule(target.rpartition(".")[0]).register_parameter(target.rpartition(".")[2], folded_bias)
    if bias is None:
        with graph.graph.inserting_before(convolution):
            bias = graph.graph.get_attr(target)
        convolution.args = (*convolution.args[:2], bias, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    graph.graph.erase_node(norm)
