"""Our annotation as an algorithm of neural-compressor; import it inside `calibration.quiet` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neural_compressor.torch.algorithms.pt2e_quant.core import W8A8PT2EQuantizer
from neural_compressor.torch.algorithms.pt2e_quant.utility import create_quant_spec_from_config
from neural_compressor.torch.quantization.config import INT8StaticQuantConfig
from neural_compressor.torch.utils.utility import register_algo

from .graph import converted
from .quantizer import IntegerQuantizer, observed_weight
from .scheme import Scheme

if TYPE_CHECKING:
    from collections import OrderedDict

    from neural_compressor.common.utils import Mode
    from torch import nn
    from torch.fx import GraphModule

ALGORITHM = "mbcompress_static_quant"
UNSUPPORTED = "mbcompress_unsupported"
"""Key of `GraphModule.meta`: operators that stay in float because no runtime has them in int8."""


class IntegerConfig(INT8StaticQuantConfig):  # type: ignore[misc]  # neural-compressor is not typed
    """neural-compressor's options of static quantization, read by our algorithm."""

    name = ALGORITHM
    narrow: frozenset[str] = frozenset()

    @property
    def scheme(self) -> Scheme:
        """Which layers stay in float comes from neural-compressor's local settings."""
        spared = frozenset(name for name, local in self.local_config.items() if local.w_dtype == "fp32")
        return Scheme(self.act_algo, self.act_sym, spared, self.narrow)


def config(scheme: Scheme) -> IntegerConfig:
    """A scheme in neural-compressor's terms."""
    wanted = IntegerConfig(act_algo=scheme.algorithm, act_sym=scheme.symmetric)
    wanted.narrow = scheme.narrow_layers
    for name in sorted(scheme.float_layers):
        wanted.set_local(name, IntegerConfig(w_dtype="fp32", act_dtype="fp32"))
    return wanted


def exported(captured: GraphModule) -> GraphModule:
    """With the marks by which neural-compressor knows a graph that its own `export` made."""
    marks: dict[str, Any] = {"_exported": True, "dynamic_shapes": None}
    captured.__dict__.update(marks)
    return captured


class IntegerCompressor(W8A8PT2EQuantizer):  # type: ignore[misc]
    """neural-compressor's PT2E quantizer with our annotation and folded weights."""

    def prepare(self, model: GraphModule, *arguments: Any, **options: Any) -> GraphModule:
        prepared: GraphModule = super().prepare(model, *arguments, **options)
        prepared.meta[UNSUPPORTED] = self._annotator.unsupported
        return prepared

    def update_quantizer_based_on_quant_config(self, quant_config: IntegerConfig) -> IntegerQuantizer:
        activation = create_quant_spec_from_config("uint8", quant_config.act_sym, "per_tensor", quant_config.act_algo)
        self._annotator = IntegerQuantizer(quant_config.scheme, activation, observed_weight)
        return self._annotator

    def convert(self, model: GraphModule, *arguments: Any, **options: Any) -> nn.Module:
        return converted(model)


@register_algo(name=ALGORITHM)  # type: ignore[untyped-decorator]
def static_quant_entry(
    model: GraphModule, configs_mapping: OrderedDict[str, IntegerConfig], mode: Mode, **options: Any
) -> nn.Module:
    """What neural-compressor's `prepare`, `quantize` and `autotune` call."""
    result: nn.Module = IntegerCompressor(configs_mapping[ALGORITHM]).execute(model, mode=mode, **options)
    return result
