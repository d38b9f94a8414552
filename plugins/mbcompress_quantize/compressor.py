"""Our annotation as a neural-compressor algorithm; import this module only through `calibration.load_compressor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neural_compressor.torch.algorithms.pt2e_quant.core import W8A8PT2EQuantizer
from neural_compressor.torch.algorithms.pt2e_quant.utility import create_quant_spec_from_config
from neural_compressor.torch.quantization import TuningConfig, autotune, prepare
from neural_compressor.torch.quantization.config import INT8StaticQuantConfig
from neural_compressor.torch.utils.utility import register_algo

from mbcompress.graph import copy_model

from .fake_quantize import observed_weight
from .graph import convert_graph
from .quantizer import IntegerQuantizer
from .scheme import Scheme

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Callable, Sequence

    from neural_compressor.common.utils import Mode
    from torch import nn
    from torch.fx import GraphModule

ALGORITHM = "mbcompress_static_quant"
FLOAT, REDUCED = "fp32", "int7"
UNSUPPORTED, SCHEME = "mbcompress_unsupported", "mbcompress_scheme"
"""Keys of `GraphModule.meta`: operators without int8 support, which stay in float, and the scheme."""


class IntegerConfig(INT8StaticQuantConfig):  # type: ignore[misc]  # neural-compressor is not typed
    """neural-compressor's config for static quantization, used by our algorithm."""

    name = ALGORITHM

    @property
    def scheme(self) -> Scheme:
        """The scheme; per-layer choices are local configs in neural-compressor."""
        chosen = {
            dtype: frozenset(name for name, local in self.local_config.items() if local.w_dtype == dtype)
            for dtype in (FLOAT, REDUCED)
        }
        return Scheme(self.act_algo, self.act_sym, chosen[FLOAT], chosen[REDUCED])


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
        return convert_graph(model)


@register_algo(name=ALGORITHM)  # type: ignore[untyped-decorator]
def static_quant_entry(
    model: GraphModule, configs_mapping: OrderedDict[str, IntegerConfig], mode: Mode, **options: Any
) -> nn.Module:
    """Quantize; called by neural-compressor's `prepare`, `quantize` and `autotune`."""
    result: nn.Module = IntegerCompressor(configs_mapping[ALGORITHM]).execute(model, mode=mode, **options)
    return result


def prepare_graph(graph: GraphModule, scheme: Scheme) -> GraphModule:
    """Return a copy of a canonical graph with observers; UNSUPPORTED and SCHEME are set in its `meta`."""
    prepared: GraphModule = prepare(_marked(copy_model(graph)), _config(scheme))
    return prepared


def try_schemes(
    graph: GraphModule,
    schemes: Sequence[Scheme],
    tolerable_loss: float,
    evaluate: Callable[[nn.Module], float],
    calibrate: Callable[[GraphModule], None],
) -> None:
    """Evaluate the float graph, then calibrate, convert and evaluate each scheme until one is accurate enough."""
    settings = TuningConfig(
        config_set=[_config(scheme) for scheme in schemes],
        tolerable_loss=tolerable_loss,
        max_trials=len(schemes),
    )
    autotune(_marked(copy_model(graph)), settings, evaluate, run_fn=calibrate)


def _config(scheme: Scheme) -> IntegerConfig:
    config = IntegerConfig(act_algo=scheme.algorithm, act_sym=scheme.symmetric)
    for name in sorted(scheme.reduce_range_layers - scheme.float_layers):
        config.set_local(name, IntegerConfig(w_dtype=REDUCED))
    for name in sorted(scheme.float_layers):
        config.set_local(name, IntegerConfig(w_dtype=FLOAT, act_dtype=FLOAT))
    return config


def _marked(graph: GraphModule) -> GraphModule:
    """Set the attributes that neural-compressor's own `export` sets on a graph."""
    marks: dict[str, Any] = {"_exported": True, "dynamic_shapes": None}
    graph.__dict__.update(marks)
    return graph
