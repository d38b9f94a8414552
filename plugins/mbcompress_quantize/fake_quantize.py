"""Fake quantization of activations and weights, as specifications for torchao's PT2E flow.

Activations are uint8, asymmetric, per tensor; weights are int8, symmetric, per output channel, in -127..127. ONNX
Runtime and OpenVINO run this combination fastest on x86-64. Scheme: Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .pt2e import (
    FakeQuantize,
    FixedQParamsFakeQuantize,
    FixedQParamsObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    QuantizationSpec,
)

AVERAGING_CONSTANT = 0.05
"""Weight of each training batch in the moving average of the activation ranges."""

WEIGHT_LIMIT, REDUCED_LIMIT = 127, 64
"""Largest weight with 8 and 7 bits; with 64, the sum of two products is at most 255 * (64 + 64), which fits 16 bits."""


class ConvertibleFakeQuantize(FakeQuantize):  # type: ignore[misc]  # torchao is not typed
    """Fake quantization that is converted with the scale it was trained with.

    torchao's fused module is not: for a symmetric range with a negative extreme, its scale is that extreme / 128, but
    conversion uses / 127, so the converted model differs from the trained one (32 dB SQNR).
    """

    scale: Tensor
    zero_point: Tensor

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        if self.observer_enabled[0]:
            observed: tuple[Tensor, Tensor] = super().calculate_qparams()
            return observed
        return self.scale, self.zero_point

    def set_qparams(self, scale: float, zero_point: int) -> None:
        """Set scale and zero point, and the observer's range, from which training starts."""
        device = self.scale.device
        self.scale = torch.tensor([scale], device=device)
        self.zero_point = torch.tensor([zero_point], dtype=self.zero_point.dtype, device=device)
        limits = (-127.5, 127.5) if self.qscheme == torch.per_tensor_symmetric else (-zero_point, 255 - zero_point)
        observer = self.activation_post_process
        observer.min_val, observer.max_val = (torch.tensor(limit * scale, device=device) for limit in limits)


class UnitIntervalFakeQuantize(FixedQParamsFakeQuantize):  # type: ignore[misc]  # torchao is not typed
    """Fake quantization to 0, 1/255, …, 1, for operators with outputs in [0, 1], such as hard sigmoid."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(FixedQParamsObserver.with_args(scale=1 / 255, zero_point=0, **spec))


UNIT_INTERVAL_SPEC = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=UnitIntervalFakeQuantize,
)


def fake_quantized_activation(symmetric: bool) -> QuantizationSpec:
    """uint8; during training the range follows the data."""
    return QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=ConvertibleFakeQuantize.with_args(
            observer=MovingAverageMinMaxObserver, averaging_constant=AVERAGING_CONSTANT, eps=2**-12
        ),
    )


def fake_quantized_weight(limit: int) -> QuantizationSpec:
    """int8 in -limit..limit; the range is that of the current weights."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-limit,
        quant_max=limit,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=ConvertibleFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0, eps=2**-16
        ),
    )


def observed_weight(limit: int) -> QuantizationSpec:
    """The same for calibration, which observes without rounding."""
    observer = PerChannelMinMaxObserver.with_args(eps=2**-16)
    return replace(fake_quantized_weight(limit), observer_or_fake_quant_ctr=observer)
