"""A checkpoint that would create a file when it is unpickled: refused in one sentence, and there is no file."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mbcompress.cli import main
from mbcompress.contract.weights import read_weights
from mbcompress.errors import MbcompressError

REFUSED = (
    "is not a checkpoint of tensors only; loading it could execute code, so it was refused "
    "(save model.state_dict(), or use safetensors)"
)
MODEL = {"source": "mobilenet_v1", "num_classes": 10, "width": 0.25, "input_size": 32}


class Payload:
    """Unpickling it creates the file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def zipped(content: object, path: Path) -> None:
    torch.save(content, path)


def older(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bare(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "proof"


@pytest.fixture(params=[zipped, older, bare], ids=lambda write: write.__name__)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path, proof: Path) -> Path:
    """Weights with a payload beside them."""
    path = tmp_path / "weights.pt"
    write: Callable[[object, Path], None] = request.param
    write({"state_dict": {"weight": torch.zeros(2)}, "epoch": Payload(proof)}, path)
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    return message.removeprefix("mbcompress: ")


def test_the_payload_is_real(checkpoint: Path, proof: Path) -> None:
    if checkpoint.read_bytes()[:2] == b"PK" or b"\x8a\x0al\xfc" in checkpoint.read_bytes()[:16]:
        torch.load(checkpoint, weights_only=False)
    else:
        pickle.loads(checkpoint.read_bytes())
    assert proof.exists()


def test_read(checkpoint: Path, proof: Path) -> None:
    with pytest.raises(MbcompressError) as refused:
        read_weights(checkpoint)
    assert str(refused.value) == f"{checkpoint}: {REFUSED}"
    assert not proof.exists()


def test_info(checkpoint: Path, proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "info", checkpoint) == f"{checkpoint}: {REFUSED}"
    assert not proof.exists()


@pytest.mark.parametrize("who", ["model", "teacher", "python"])
def test_run(checkpoint: Path, proof: Path, who: str, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = {**MODEL, "weights": str(checkpoint)}
    if who == "python":
        hostile = {"source": "python", "target": "torch.nn:Identity", "num_classes": 10, "weights": str(checkpoint)}
    passes: list[Any] = [{"distill": {"teacher": hostile, "training": {"epochs": 1}}}] if who == "teacher" else []
    recipe = {"model": MODEL if who == "teacher" else hostile, "data": {"name": "digits"}, "passes": passes}
    path = checkpoint.with_name("recipe.yaml")
    path.write_text(yaml.safe_dump(recipe))
    assert refusal(capsys, "run", path, "--out", checkpoint.with_name("out")).endswith(f"{checkpoint}: {REFUSED}")
    assert not proof.exists()
    assert not checkpoint.with_name("out").exists()


def test_a_pickle_under_the_name_of_safetensors(checkpoint: Path, proof: Path) -> None:
    path = checkpoint.rename(checkpoint.with_suffix(".safetensors"))
    with pytest.raises(MbcompressError, match="is not a readable safetensors file: "):
        read_weights(path)
    assert not proof.exists()


# Checkpoints without code that claim more than they are


def problem(path: Path) -> str:
    with pytest.raises(MbcompressError) as refused:
        read_weights(path)
    message = str(refused.value)
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


def test_a_tensor_that_repeats_one_number(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    size = path.stat().st_size
    assert problem(path) == f"is {size} bytes, but its tensors declare {4 * 10**12}; save the state dict again"


def test_tensors_that_are_shared_are_fine(tmp_path: Path) -> None:
    weight = torch.ones(100, 100)
    torch.save(dict.fromkeys("abcde", weight), tmp_path / "w.pt")
    assert set(read_weights(tmp_path / "w.pt")) == set("abcde")


def test_a_zip_that_unpacks_to_more(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "but unpacks to 400" in problem(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.eye(3).to_sparse(), torch.eye(3, device="meta"), torch.eye(3, dtype=torch.complex64)],
    ids=["sparse", "meta", "complex"],
)
def test_tensors_of_other_kinds(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "w.pt")
    assert problem(tmp_path / "w.pt") == "'a' must be a plain dense tensor of real numbers"


def test_dtypes_that_are_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.zeros(2, 2).to(torch.float8_e5m2)}, tmp_path / "w.pt")
    assert main(["info", str(tmp_path / "w.pt")]) == 0
    assert "float8_e5m2" in capsys.readouterr().out


def test_names_are_cut_and_made_printable(tmp_path: Path) -> None:
    from mbcompress.contract.weights import load_weights

    path = tmp_path / "w.safetensors"
    save_file({"a\nb\x1b[2J" * 500: torch.zeros(1)}, path)
    with pytest.raises(MbcompressError) as refused:
        load_weights(torch.nn.Identity(), path, "nothing")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300 + len(str(path))


def test_a_damaged_pickle_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"protocol_version", b"protocol_\xff\xff\xff\xff\xff\xff\xff", 1))
    assert problem(path) == "is not a readable PyTorch checkpoint: its pickle is damaged"


def test_safetensors_that_no_array_can_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[0,4611686018427387904,9],"data_offsets":[0,0]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert refusal(capsys, "info", path).startswith(f"{path}: is not a readable safetensors file: array is too big")
