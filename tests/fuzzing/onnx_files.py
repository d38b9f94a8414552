"""Damaged ONNX files, and ones that keep tensors elsewhere, described by `mbcompress info`."""

from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuzzing import damage
from fuzzing.safetensors_files import describe
from fuzzing.suites import Reading

ELSEWHERE = (
    "../../etc/passwd",
    "/etc/passwd",
    "weights.bin",
    "",
    "a/../../x",
    "\\\\host\\x",
    "~/x",
    "C:\\x",
    "x\0y",
    ".",
)


class OnnxFiles:
    """Bytes of a file; dtypes, shapes, names and places of tensors."""

    def __init__(self) -> None:
        weight = onnx.numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32), "w")
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
        result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", [given], [result], [weight])
        self.model = helper.make_model(graph, producer_name="somebody")
        helper.set_model_props(self.model, {"mean": "[0.5]"})
        self.whole = self.model.SerializeToString()

    def prepare(self, random: Random, folder: Path) -> Reading:
        path = folder / "m.onnx"
        path.write_bytes(damage.in_bytes(random, self.whole) if random.random() < 0.6 else self._changed(random))
        return lambda: describe(path)

    def _changed(self, random: Random) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        tensor = model.graph.initializer[0]
        match random.randrange(6):
            case 0:
                tensor.data_type = random.choice((-1, 0, 99, 2**31 - 1))
            case 1:
                tensor.dims.append(random.choice((-1, 0, 2**62, -(2**63))))
            case 2:
                tensor.data_location = TensorProto.EXTERNAL
                onnx.external_data_helper.set_external_data(tensor, random.choice(ELSEWHERE))
            case 3:
                model.graph.input[0].type.tensor_type.elem_type = random.choice((-1, 0, 99, 2**31 - 1))
            case 4:
                inner = model.graph
                for _ in range(random.choice((5, 60, 150))):
                    attribute = inner.node.add(op_type="If").attribute.add(name="then_branch", type=5)
                    inner = attribute.g
            case 5:
                model.graph.node.extend([model.graph.node[0]] * 5000)
        return bytes(model.SerializeToString())
