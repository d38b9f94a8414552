"""Export a module to an ONNX file optimized for ONNX Runtime."""

from pathlib import Path

import onnx
import torch
from torch import nn

from mbcompress import MbcompressError
from mbcompress.errors import brief
from mbcompress.graph import fuse_conv_bn, quiet_export, to_contiguous

from .lowering import lower


def export(model: nn.Module, input_shape: tuple[int, int, int], path: Path, opset: int) -> None:
    """Write `model` with input `image` (N, C, H, W) float32 and output `logits` (N, K), N dynamic.

    Raises:
        MbcompressError: torch.export cannot capture the model, or ONNX does not support an operator.
    """
    example = torch.zeros(2, *input_shape)  # torch.export would make a batch size of 1 static
    # contiguous: channels_last weights would add transposes around every pooling layer
    model = fuse_conv_bn(to_contiguous(model), example, inplace=False)
    with quiet_export():
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
            reason = error.__cause__ or error  # the exporter's own message is a page long
            raise MbcompressError(
                f"onnx: the model cannot be exported ({type(reason).__name__}: {brief(str(reason))})"
            ) from error
    assert program is not None  # None only if torch writes the file itself
    proto = program.model_proto
    lower(proto)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
