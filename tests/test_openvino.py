"""The same ONNX file in OpenVINO."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mbcompress import MbcompressError
from mbcompress.errors import SpecError
from mbcompress.host import Catalogue


@pytest.fixture
def openvino() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'mbcompress[openvino]'")


def test_missing_openvino_is_named_before_anything_runs(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbcompress_onnx.openvino.INSTALLED", False)
    with pytest.raises(
        SpecError, match=r"OpenVINO is not installed; it comes with `pip install mbcompress\[openvino\]`"
    ):
        catalogue.runtimes.build("openvino", {}, catalogue)


@pytest.mark.usefixtures("openvino")
def test_it_answers_as_the_model_does_in_any_batch_size(
    catalogue: Catalogue, tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = tiny_model("mobilenet_v1")
    runtime = catalogue.runtimes.build("openvino", {}, catalogue)
    path = tmp_path / "model.openvino.onnx"
    runtime.export(model, (3, 32, 32), path)
    session = runtime.open(path, 1)
    for count in (1, 3, 1):
        images = torch.randn(count, 3, 32, 32)
        with torch.no_grad():
            expected = model(images)
        torch.testing.assert_close(torch.from_numpy(session.run(images.numpy())), expected, rtol=1e-3, atol=1e-4)
    assert runtime.convolutions(path) == (27, 0)
    assert runtime.zero_weights(path).total > 200_000
    assert runtime.describe().startswith("OpenVINO 20")


@pytest.mark.usefixtures("openvino")
def test_a_file_that_is_none_is_one_sentence(catalogue: Catalogue, tmp_path: Path) -> None:
    runtime = catalogue.runtimes.build("openvino", {}, catalogue)
    with pytest.raises(MbcompressError, match=r"absent\.onnx: no such file"):
        runtime.open(tmp_path / "absent.onnx", 1)
    (tmp_path / "bad.onnx").write_text("nothing")
    with pytest.raises(MbcompressError, match=r"bad\.onnx: OpenVINO cannot open it: .+"):
        runtime.open(tmp_path / "bad.onnx", 1)
