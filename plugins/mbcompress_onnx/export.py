"""From a module to an ONNX file that is checked and ready for ONNX Runtime."""

from pathlib import Path

import onnx
import torch
from torch import nn

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.files import write_atomically
from mbcompress.graph.export import silenced
from mbcompress.graph.fuse import fuse_conv_bn
from mbcompress.graph.layout import to_contiguous

from .lowering import lower


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path, opset: int) -> None:
    """Write `model` with input `image` (N, C, H, W) float32 and output `logits` (N, K), N free.

    Raises:
        MbcompressError: the model cannot be captured, or uses an operator that has no ONNX form.
    """
    # channels_last weights would add a reordering around every pooling
    example = torch.zeros(2, *input_shape)  # a batch of 1 would be taken for a constant
    model = fuse_conv_bn(to_contiguous(model), example, inplace=False)
    with silenced():
        try:
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = error.__cause__ or error  # the exporter's own message is a page about its stages
            raise MbcompressError(
                f"onnx: the model cannot be exported ({type(reason).__name__}: {brief(str(reason))})"
            ) from error
    assert program is not None  # None only where torch writes the file itself
    proto = program.model_proto
    lower(proto)
    onnx.checker.check_model(proto, full_check=True)
    write_atomically(path, proto.SerializeToString())
