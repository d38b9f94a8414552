"""Parameter and MAC counts against the published ones, torchvision's keys, and weights that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mbcompress import MbcompressError
from mbcompress.checkpoint.architecture import layer_sizes, resize_layers
from mbcompress.graph import count_macs, count_parameters
from mbcompress.registry.discovery import Registry

SOURCES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


@pytest.mark.parametrize(
    ("source", "parameters", "mega_macs"),
    [
        ("mobilenet_v1", 4_231_976, 568.7),
        ("mobilenet_v2", 3_504_872, 300.8),
        ("mobilenet_v3_small", 2_542_856, 56.5),
        ("mobilenet_v3_large", 5_483_032, 216.6),
    ],
)
def test_counts_are_the_published_ones(registry: Registry, source: str, parameters: int, mega_macs: float) -> None:
    model = registry.build_model({"source": source, "num_classes": 1000}).load()
    assert count_parameters(model) == parameters
    assert count_macs(model, torch.zeros(1, 3, 224, 224)) / 1e6 == pytest.approx(mega_macs, abs=0.05)


def test_macs_of_a_convolution_and_a_linear_layer() -> None:
    convolution = torch.nn.Conv2d(4, 6, 3, padding=1, groups=2)
    assert count_macs(convolution, torch.zeros(1, 4, 5, 7)) == 5 * 7 * 6 * (4 // 2) * 9
    assert count_macs(torch.nn.Linear(11, 3), torch.zeros(1, 11)) == 33


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (
            "mobilenet_v2",
            {
                "features.0.0.weight": (32, 3, 3, 3),
                "features.0.1.running_var": (32,),
                "features.1.conv.0.0.weight": (32, 1, 3, 3),
                "features.1.conv.1.weight": (16, 32, 1, 1),
                "features.1.conv.2.bias": (16,),
                "features.2.conv.1.0.weight": (96, 1, 3, 3),
                "features.17.conv.3.running_mean": (320,),
                "features.18.0.weight": (1280, 320, 1, 1),
                "classifier.1.weight": (1000, 1280),
            },
        ),
        (
            "mobilenet_v3_small",
            {
                "features.0.0.weight": (16, 3, 3, 3),
                "features.1.block.0.0.weight": (16, 1, 3, 3),
                "features.1.block.1.fc1.weight": (8, 16, 1, 1),
                "features.1.block.1.fc2.bias": (16,),
                "features.1.block.2.1.weight": (16,),
                "features.4.block.1.0.weight": (96, 1, 5, 5),
                "features.12.0.weight": (576, 96, 1, 1),
                "classifier.0.weight": (1024, 576),
                "classifier.3.bias": (1000,),
            },
        ),
        (
            "mobilenet_v3_large",
            {
                "features.4.block.2.fc1.weight": (24, 72, 1, 1),
                "features.16.0.weight": (960, 160, 1, 1),
                "classifier.0.weight": (1280, 960),
            },
        ),
    ],
)
def test_keys_and_shapes_are_torchvisions(registry: Registry, source: str, keys: dict[str, tuple[int, ...]]) -> None:
    state = registry.build_model({"source": source, "num_classes": 1000}).load().state_dict()
    assert {key: tuple(state[key].shape) for key in keys} == keys


def test_v3_normalization_is_torchvisions(registry: Registry) -> None:
    model = registry.build_model({"source": "mobilenet_v3_small", "num_classes": 10, "width": 0.25}).load()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 1e-2)}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("removed", "side"), [(0, 1), (1, 2), (2, 4), (5, 32)])
def test_strides_removed_sets_the_final_resolution(registry: Registry, source: str, removed: int, side: int) -> None:
    spec = {"source": source, "num_classes": 10, "width": 0.25, "input_size": 32, "strides_removed": removed}
    model = registry.build_model(spec).load()
    with torch.no_grad():
        assert model.features(torch.zeros(1, 3, 32, 32)).shape[2:] == (side, side)


@pytest.mark.parametrize("source", SOURCES)
def test_shrunken_architecture_comes_back_from_its_description(tiny_model: Any, source: str) -> None:
    import torch_pruning as tp

    model = tiny_model(source)
    original = layer_sizes(model)
    example = torch.zeros(1, 3, 32, 32)
    tp.pruner.BasePruner(
        model,
        example,
        tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.4,
        ignored_layers=[list(model.modules())[-1]],
    ).step()
    assert layer_sizes(model) != original
    fresh = tiny_model(source)
    resize_layers(fresh, layer_sizes(model))
    fresh.load_state_dict(model.state_dict(), assign=True)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(images), model.eval()(images))


SMALL = {"source": "mobilenet_v2", "num_classes": 10, "width": 0.25, "input_size": 32}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_load_by_name(registry: Registry, tmp_path: Path, suffix: str, prefix: str) -> None:
    state = registry.build_model(SMALL).load().state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {prefix + key: value for key, value in state.items()}, "epoch": 3}, path)
    else:
        save_file(state, path)
    loaded = registry.build_model({**SMALL, "weights": str(path)}).load().state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_half_precision_weights_are_widened(registry: Registry, tmp_path: Path) -> None:
    state = registry.build_model(SMALL).load().state_dict()
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    model = registry.build_model({**SMALL, "weights": str(tmp_path / "half.safetensors")}).load()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_wrong_number_of_classes_names_the_layer(registry: Registry, tmp_path: Path) -> None:
    save_file(registry.build_model({**SMALL, "num_classes": 7}).load().state_dict(), tmp_path / "w.safetensors")
    source = registry.build_model({**SMALL, "weights": str(tmp_path / "w.safetensors")})
    message = "classifier.1.weight is 7x1280 in the file and 10x1280 in the model"
    with pytest.raises(MbcompressError, match=message):
        source.load()


def test_another_architecture_says_which_keys_differ(registry: Registry, tmp_path: Path) -> None:
    other = registry.build_model({**SMALL, "source": "mobilenet_v3_small"}).load()
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    source = registry.build_model({**SMALL, "weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(MbcompressError, match=r"does not fit mobilenet_v2 .* missing keys: .* unknown keys: .*"):
        source.load()


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_checkpoint_with_code_is_refused_before_it_runs(registry: Registry, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    torch.save({"state_dict": Payload(marker)}, path)
    source = registry.build_model({**SMALL, "weights": str(path)})
    with pytest.raises(MbcompressError, match="could execute code, so it was refused"):
        source.load()
    assert not marker.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02}q\x00.", b"PK\x03\x04broken"])
def test_damaged_weights_are_one_sentence(registry: Registry, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    source = registry.build_model({**SMALL, "weights": str(tmp_path / name)})
    with pytest.raises(MbcompressError) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
