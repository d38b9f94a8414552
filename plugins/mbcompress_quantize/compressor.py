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
FLOAT, NARROW = "fp32", "int7"
UNSUPPORTED, SCHEME = "mbcompress_unsupported", "mbcompress_scheme"
"""Keys of `GraphModule.meta`: operators that stay in float because no runtime has them in int8, and the scheme."""


class IntegerConfig(INT8StaticQuantConfig):  # type: ignore[misc]  # neural-compressor is not typed
    """neural-compressor's options of static quantization, read by our algorithm."""

    name = ALGORITHM

    @property
    def scheme(self) -> Scheme:
        """Choices for single layers come from neural-compressor's local settings."""
        chosen = {
            dtype: frozenset(name for name, local in self.local_config.items() if local.w_dtype == dtype)
            for dtype in (FLOAT, NARROW)
        }
        return Scheme(self.act_algo, self.act_sym, chosen[FLOAT], chosen[NARROW])


def config(scheme: Scheme) -> IntegerConfig:
    """A scheme in neural-compressor's terms."""
    wanted = IntegerConfig(act_algo=scheme.algorithm, act_sym=scheme.symmetric)
    for name in sorted(scheme.narrow_layers - scheme.float_layers):
        wanted.set_local(name, IntegerConfig(w_dtype=NARROW))
    for name in sorted(scheme.float_layers):
        wanted.set_local(name, IntegerConfig(w_dtype=FLOAT, act_dtype=FLOAT))
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
        prepared.meta |= {UNSUPPORTED: self._annotator.unsupported, SCHEME: self.quant_config.scheme}
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
