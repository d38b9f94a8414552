"""Images from iterables, Datasets, DataLoaders, generators and Hugging Face datasets, and their splits."""

import importlib
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import mbcompress
from mbcompress import MbcompressError, Progress
from mbcompress.data import SPLITS
from mbcompress.data.loading import load_sources
from mbcompress.data.reading import read_images
from mbcompress.registry.discovery import Registry

SHAPE = (3, 8, 8)
GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (40, *SHAPE), np.uint8)
LABELS = np.arange(40) % 4
FLOATS = GENERATOR.normal(size=PIXELS.shape).astype(np.float32)


def pictures(count: int = 40, mode: str = "RGB") -> list[Image.Image]:
    return [Image.fromarray(pixels.transpose(1, 2, 0)).convert(mode) for pixels in PIXELS[:count]]


class Items(Dataset[Any]):
    """A map-style dataset that never raises IndexError, as many do not."""

    classes = ("ant", "bee", "cat", "dog")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(PIXELS[index % 40]), int(LABELS[index % 40])


class ClassLabel(NamedTuple):
    names: list[str]


class ImageFeature:
    """Stands in for `datasets.Image`, which is recognized by the name of its class."""


ImageFeature.__name__ = "Image"


class HuggingFace:
    """The parts of `datasets.Dataset` in use: features, and items with a PIL image and a label."""

    features = {"id": object(), "picture": ImageFeature(), "kind": ClassLabel(["a", "b", "c", "d"])}  # noqa: RUF012

    def __init__(self, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> None:
        self.images = [image.convert(mode).resize(size) for image in pictures()]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": index, "picture": self.images[index], "kind": int(LABELS[index])}


def batches() -> Iterator[tuple[np.ndarray, list[int]]]:
    for start in range(0, 40, 16):
        yield PIXELS[start : start + 16], LABELS[start : start + 16].tolist()


SOURCES: dict[str, Callable[[], Any]] = {
    "pairs": lambda: list(zip(PIXELS, LABELS, strict=True)),
    "pairs of lists": lambda: [[PIXELS[index], int(label)] for index, label in enumerate(LABELS)],
    "two arrays": lambda: (PIXELS, LABELS),
    "two tensors": lambda: (torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
    "a generator of batches": batches,
    "height first": lambda: [(PIXELS.transpose(0, 2, 3, 1), LABELS[:, None])],
    "a Dataset": Items,
    "a DataLoader": lambda: DataLoader(Items(), batch_size=7),
    "a DataLoader of one at a time": lambda: DataLoader(Items(), batch_size=None),
    "a TensorDataset": lambda: TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
    "PIL images": lambda: zip(pictures(), LABELS.tolist(), strict=True),
    "batches of PIL images": lambda: [(pictures(), LABELS.tolist())],
    "Hugging Face": HuggingFace,
    "batches as mappings": lambda: [{"pixel_values": PIXELS, "labels": LABELS}],
}


@pytest.mark.parametrize("shape", [SHAPE, None])
@pytest.mark.parametrize("name", SOURCES)
def test_images_are_the_same_from_every_source(name: str, shape: tuple[int, int, int] | None) -> None:
    images = read_images(SOURCES[name](), "train", shape, 1.0)
    assert images.pixels.flags.c_contiguous
    assert images.pixels.dtype == np.uint8
    assert images.labels.dtype == np.int64
    np.testing.assert_array_equal(images.pixels, PIXELS)
    np.testing.assert_array_equal(images.labels, LABELS)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.bfloat16])
def test_floats_stay_as_they_are(kind: Any) -> None:
    given: Any = torch.from_numpy(FLOATS).to(kind) if isinstance(kind, torch.dtype) else FLOATS.astype(kind)
    splits = load_sources({"train": (given, LABELS), "calibration": 4}, SHAPE)
    expected = torch.as_tensor(given).float().numpy()
    assert splits.train.pixels.dtype == np.float32
    parts = (splits.train, splits.calibration, splits.validation, splits.test)
    found = np.concatenate([part.pixels for part in parts])
    order = [int(np.flatnonzero((expected == image).all((1, 2, 3)))[0]) for image in found]
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(splits.normalization.apply(splits.test.pixels), splits.test.pixels)
    assert "already normalized" in splits.normalization.formula


def test_training_takes_floats_as_they_are() -> None:
    from mbcompress.data.loader import training_batches
    from mbcompress.data.splits import Augmentation, Images, Normalization

    images = Images(FLOATS, LABELS.astype(np.int64))
    arguments = Normalization.identity(3), Augmentation(), 40, torch.device("cpu")
    (only,) = training_batches(images, *arguments, seed=0, epoch=1)
    batch, labels = only.images, only.labels
    for image, label in zip(batch.numpy(), labels, strict=True):
        (index,) = np.flatnonzero((image == FLOATS).all((1, 2, 3)))
        assert LABELS[index] == label


def test_gray_images_in_all_their_forms() -> None:
    gray = PIXELS[:, 0]
    for given in (gray, gray[:, None], gray[..., None]):
        np.testing.assert_array_equal(read_images((given, LABELS), "train", None, 1.0).pixels, gray[:, None])
        color = read_images((given, LABELS), "train", SHAPE, 1.0).pixels
        np.testing.assert_array_equal(color, np.repeat(gray[:, None], 3, axis=1))
    one = read_images(zip(pictures(mode="L"), LABELS, strict=True), "train", None, 1.0)
    assert one.pixels.shape == (40, 1, 8, 8)
    for wanted in ((1, 8, 8), (3, 8, 8)):
        assert read_images(HuggingFace("L"), "train", wanted, 1.0).pixels.shape == (40, *wanted)
    assert read_images(HuggingFace("RGBA"), "train", SHAPE, 1.0).pixels.shape == (40, *SHAPE)


def test_16_bit_pil_images_are_scaled() -> None:
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    images = read_images([(Image.fromarray(deep), 0)], "train", None, 1.0)
    np.testing.assert_array_equal(images.pixels, np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16))


def test_pil_images_are_resized_to_the_models_input() -> None:
    images = read_images(HuggingFace(size=(31, 17)), "train", (3, 9, 5), 1.0)
    assert images.pixels.shape == (40, 3, 9, 5)


def test_missing_splits_are_split_off_with_a_note() -> None:
    splits = load_sources({"train": Items(), "calibration": 6}, None)
    assert [len(part) for part in (splits.train, splits.calibration, splits.validation, splits.test)] == [23, 6, 3, 8]
    assert splits.notes == (
        "data: split off from the 40 images in 'train': test 8, validation 3, calibration 6; 23 remain to train on",
    )
    whole = [part.pixels for part in (splits.train, splits.calibration, splits.validation, splits.test)]
    assert {image.tobytes() for image in np.concatenate(whole)} == {image.tobytes() for image in PIXELS}
    again = load_sources({"train": Items(), "calibration": 6}, None)
    assert again.fingerprint() == splits.fingerprint()
    other = load_sources({"train": Items(), "calibration": 6, "split_seed": 1}, None)
    assert other.fingerprint() != splits.fingerprint()


def test_given_splits_are_kept_without_a_note() -> None:
    parts = {name: Subset(Items(), range(start, 40, 4)) for start, name in enumerate(SPLITS)}
    splits = load_sources({**parts, "mean": [0.1, 0.2, 0.3], "std": [0.5], "flip": True}, None)
    for start, name in enumerate(SPLITS):
        np.testing.assert_array_equal(getattr(splits, name).pixels, PIXELS[start::4])
    assert splits.notes == ()
    assert (splits.normalization.mean, splits.normalization.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert splits.augmentation.flip


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (lambda: DataLoader(Subset(Items(), range(40)), batch_size=8), ("ant", "bee", "cat", "dog")),
        (HuggingFace, ("a", "b", "c", "d")),
        (lambda: (PIXELS, LABELS), ("0", "1", "2", "3")),
    ],
)
def test_class_names_are_those_of_the_dataset(source: Callable[[], Any], names: tuple[str, ...]) -> None:
    assert load_sources({"train": source(), "calibration": 4}, None).classes == names


class Named(Items):
    """Items whose classes have these names."""

    def __init__(self, *classes: str) -> None:
        super().__init__()
        self.classes = classes


def test_labels_mean_the_same_in_all_parts() -> None:
    parts = {"train": Named("cat", "cow", "dog", "emu"), "test": Named("cat", "dog", "emu", "fox"), "calibration": 4}
    with pytest.raises(MbcompressError, match=r"'test' has the classes cat, dog, emu, fox, but 'train' has cat, cow, "):
        load_sources(parts, None)


def test_class_names_are_those_of_the_labels() -> None:
    class Coarse(HuggingFace):
        features = {  # noqa: RUF012
            "superclass": ClassLabel(["x", "y"]),
            "picture": ImageFeature(),
            "label": ClassLabel(["a", "b", "c", "d"]),
        }

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"superclass": 0, "picture": self.images[index], "label": int(LABELS[index])}

    assert load_sources({"train": Coarse(), "calibration": 4}, None).classes == ("a", "b", "c", "d")


def test_loaders_that_shuffle_are_read_alike_and_leave_the_callers_random_state() -> None:
    def read() -> str:
        loader = DataLoader(Items(), batch_size=8, shuffle=True)
        return load_sources({"train": loader, "calibration": 4}, None).fingerprint()

    torch.manual_seed(1)
    state, first = torch.get_rng_state(), read()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert read() == first


def test_a_generator_can_be_read_only_once() -> None:
    spent = batches()
    list(spent)
    with pytest.raises(MbcompressError, match=r"^data: 'train' has no images; an iterator can only be read once"):
        load_sources({"train": spent}, None)


def endless() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        yield PIXELS, LABELS


def breaking() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield PIXELS, LABELS
    raise OSError("the disk is gone\nreally")


NAN = np.full((1, *SHAPE), np.nan, np.float32)
BAD: dict[str, tuple[Any, str]] = {
    "a number": (3, "must be an iterable of (images, labels), a Dataset or a DataLoader, got int"),
    "text": ("photos", "must be an iterable of (images, labels), a Dataset or a DataLoader, got str"),
    "nothing": ([], "has no images"),
    "empty batches": ([(PIXELS[:0], LABELS[:0])], "has no images"),
    "images alone": (PIXELS, "image 0 must come as (images, labels), got ndarray"),
    "three values": ([(PIXELS, LABELS, LABELS)], "image 0 must come as (images, labels), got tuple of 3"),
    "mappings without labels": ([{"image": PIXELS}], "image 0 must have 'image' and 'label', got image"),
    "labels as floats": ((PIXELS, LABELS / 1), "labels must be integers, got float64 values"),
    "a label as text": ([(PIXELS[0], "cat")], "labels must be integers, got 'cat'"),
    "one-hot": ((PIXELS, np.eye(4, dtype=int)[LABELS]), "got shape (40, 4); use argmax for one-hot labels"),
    "negative": ((PIXELS, LABELS - 1), "labels must be from 0 and below 100000, got -1"),
    "fewer labels": ([(PIXELS, LABELS[:7])], "image 0: 7 labels came with images of shape (40, 3, 8, 8)"),
    "vectors": ([(PIXELS.reshape(40, -1), LABELS)], "40 labels came with images of shape (40, 192)"),
    "video": ([(PIXELS[:, None], LABELS)], "images must be (C, H, W), (H, W, C) or (H, W), got (1, 3, 8, 8)"),
    "integers": ((PIXELS.astype(int), LABELS), "pixels must be uint8, or floating-point and normalized, got int64"),
    "not finite": ((NAN, LABELS[:1]), "pixels must be finite, got NaN or infinity"),
    "another size": (
        [(PIXELS, LABELS), (PIXELS[..., 1:], LABELS)],
        "image 40 is 3x8x7 uint8, but those before are 3x8x8",
    ),
    "another kind": (
        [(PIXELS, LABELS), (FLOATS, LABELS)],
        "image 40 is 3x8x8 float32, but those before are 3x8x8 uint8",
    ),
    "sizes in a batch": ([([PIXELS[0], PIXELS[0, :, 1:]], [0, 1])], "images of one batch differ in shape or dtype"),
    "float PIL": ([(Image.new("F", (8, 8)), 0)], "its pixels are floating-point numbers of unknown range; save it"),
    "32-bit PIL": ([(Image.new("I", (8, 8), 70_000), 0)], "its pixels are 32-bit numbers of unknown range; save it"),
    "endless": (endless(), "needs more than 0.0001 GiB after 560 images of 3x8x8 uint8; use fewer"),
    "breaking": (breaking(), "raised OSError: the disk is gone, after 1 items"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_data_is_one_sentence(case: str) -> None:
    source, message = BAD[case]
    with pytest.raises(MbcompressError, match=re.escape(message)) as error:
        load_sources({"train": source, "memory_gib": 1e-4}, None)
    assert str(error.value).startswith("data: 'train'")
    assert "\n" not in str(error.value)


BAD_TOGETHER: dict[str, tuple[dict[str, Any], str]] = {
    "no train": ({"test": Items()}, "data: 'train' is missing (given: test)"),
    "misspelt": ({"train": Items(), "tset": Items()}, "data.tset: unknown option 'tset'; did you mean 'test'?"),
    "too few": ({"train": Items()}, "data: 40 images are too few to split (test 8, "),
    "other size": (
        {"train": Items(), "test": (PIXELS[:, :, 1:], LABELS)},
        "'test' has images of 3x7x8 uint8, but 'train'",
    ),
    "other kind": (
        {"train": Items(), "test": (FLOATS, LABELS)},
        "'test' has images of 3x8x8 float32, but 'train' of 3x8x8",
    ),
    "mean of floats": (
        {"train": (FLOATS, LABELS), "mean": [0.5]},
        "so they must already be normalized; remove 'mean' and 'std'",
    ),
    "two channels": (
        {"train": Items(), "mean": [0.5, 0.5]},
        "data: 'mean' must be one number or 3, one per channel, got 2",
    ),
}


@pytest.mark.parametrize("case", BAD_TOGETHER)
def test_parts_that_do_not_go_together_are_one_sentence(case: str) -> None:
    given, message = BAD_TOGETHER[case]
    calibration = {} if case == "too few" else {"calibration": 4}
    with pytest.raises(MbcompressError, match=re.escape(message)):
        load_sources({**given, **calibration}, None)


def test_a_hugging_face_dataset_without_labels_names_its_columns() -> None:
    class Unlabelled(HuggingFace):
        features = {"picture": ImageFeature(), "caption": object()}  # noqa: RUF012

    with pytest.raises(MbcompressError, match="must have an image and a label column, got picture, caption"):
        load_sources({"train": Unlabelled()}, None)


def test_an_array_of_another_size_than_the_model_takes_is_refused() -> None:
    with pytest.raises(MbcompressError, match="image 0 is 3x8x8 uint8, but the model takes 3x32x32; resize it"):
        load_sources({"train": Items()}, (3, 32, 32))


# --- through compress and recipes ------------------------------------------------------------------------------------


class Said(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


FAST = {"passes": [], "measure": {"rounds": 5, "round_ms": 1.0, "threads": [1]}}


def tiny_net(channels: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(channels, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(128, 4)]
    return torch.nn.Sequential(*layers)


def test_compress_takes_loaders_of_floats_and_notes_what_it_split_off(tmp_path: Path) -> None:
    said = Said()
    loader = DataLoader(TensorDataset(torch.from_numpy(FLOATS), torch.from_numpy(LABELS)), batch_size=16)
    data = {"train": loader, "test": loader, "calibration": 8}
    passes = [
        {"train": {"training": {"epochs": 1, "batch_size": 8}}},
        {"qat": {"training": {"epochs": 1, "batch_size": 8}}},
    ]
    result = mbcompress.compress(tiny_net(), {**FAST, "passes": passes}, data, out=tmp_path / "run", progress=said)
    assert said.lines[0] == (
        "data: split off from the 40 images in 'train': validation 4, calibration 8; 28 remain to train on"
    )
    preprocessing = result.report["preprocessing"]
    assert preprocessing["shape"] == ["N", *SHAPE]
    assert (preprocessing["mean"], preprocessing["std"]) == ([0.0] * 3, [1.0] * 3)
    assert preprocessing["formula"] == "the pixel as it is, already normalized"
    assert "from 0 to 255" not in (result.path / "report.html").read_text()
    with torch.no_grad():  # the figures of the file are those of the images as they came
        right = int((result.model(torch.from_numpy(FLOATS)).argmax(1).numpy() == LABELS).sum())
    assert abs(result.report["result"]["accuracy"]["top1"]["k"] - right) <= 1


def test_compress_takes_a_dataset_alone_at_a_given_input_shape(tmp_path: Path) -> None:
    class Large(HuggingFace):
        def __init__(self) -> None:
            super().__init__(size=(20, 30))
            self.images *= 5

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"picture": self.images[index], "kind": index % 4}

    result = mbcompress.compress(tiny_net(), FAST, Large(), input_shape=SHAPE, out=tmp_path / "run")
    assert result.report["preprocessing"]["classes"] == ["a", "b", "c", "d"]
    assert result.report["preprocessing"]["outputs"] == 4
    assert set(result.report["result"]["accuracy"]) == {"top1"}  # any answer is among the first five of four
    assert result.report["data"]["images"] == {"train": 16, "calibration": 128, "validation": 16, "test": 40}


def test_the_dataset_python_in_a_recipe(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import numpy as np
        def loaders(count):
            images = np.zeros((count, 8, 8, 3), np.uint8)
            return {"train": (images, np.arange(count) % 4), "test": (images[:6], np.arange(6) % 4)}
        def alone(): return loaders(90)["train"]
        def misspelt(): return {"trian": []}
        def divided():
            from mbcompress.data.loading import load_sources
            return load_sources({"train": loaders(50)["train"], "calibration": 4}, None)
    """
    (tmp_path / "own_data.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_data", None)
    del sys.modules["own_data"]
    spec = {"name": "python", "calibration": 8}
    loaded = registry.build_dataset({**spec, "target": "own_data:loaders", "args": {"count": 50}}).load(SHAPE, 0)
    assert [len(part) for part in (loaded.train, loaded.calibration, loaded.validation, loaded.test)] == [37, 8, 5, 6]
    assert "validation 5, calibration 8; 37 remain" in loaded.notes[0]
    assert len(registry.build_dataset({**spec, "target": "own_data:alone"}).load(SHAPE, 0).test) == 18
    with pytest.raises(MbcompressError, match=r"own_data:misspelt: must return train, calibration, .*, got 'trian'"):
        registry.build_dataset({**spec, "target": "own_data:misspelt"}).load(SHAPE, 0)
    assert len(registry.build_dataset({"name": "python", "target": "own_data:divided"}).load(SHAPE, 0).calibration) == 4
    with pytest.raises(
        MbcompressError,
        match=r"own_data:divided: returns Splits, which are already split and normalized; leave out 'calibration'$",
    ):
        registry.build_dataset({**spec, "target": "own_data:divided"}).load(SHAPE, 0)
    written = registry.build_dataset({"name": "python", "target": "own_data:divided"}).as_written()
    again = registry.build_dataset({"name": "python", **written}).load(SHAPE, 0)  # from a run's own recipe
    assert len(again.calibration) == 4
    with pytest.raises(MbcompressError, match=r"module 'own_data' .* has no 'loader'; did you mean 'loaders'"):
        registry.build_dataset({**spec, "target": "own_data:loader"})


def truncated() -> Image.Image:
    """An image that PIL opens, but cannot decode."""
    file = io.BytesIO()
    Image.fromarray(GENERATOR.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:-500]))


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (([PIXELS[0], PIXELS[1]], [[1], [2, 3]]), "cannot be read as images and labels: .*inhomogeneous"),
        (({"pixel_values": PIXELS[:2]}, [0, 1]), r"2 labels came with images of shape \(\)"),
        ((None, [0, 1]), r"2 labels came with images of shape \(\)"),
        (([truncated()], [0]), "cannot be read as images and labels: image file is truncated"),
        ((torch.zeros(2, 3, 8, 8).to_sparse(), [0, 1]), "cannot be read as images and labels: "),
    ],
)
def test_items_that_fit_into_no_array(item: Any, problem: str) -> None:
    with pytest.raises(MbcompressError, match=f"^data: 'train', image 0:? {problem}"):
        read_images([item], "train", None, 1.0)


def test_random_numbers_of_a_callable_depend_on_the_split_seed_alone(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a model of another seed could be tested on images that trained an earlier one."""
    source = """
        import random
        import numpy as np
        import torch

        drawn = []

        def parts():
            drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
            return {"train": [(np.zeros((40, 3, 32, 32), np.float32), np.arange(40) % 10)]}
    """
    (tmp_path / "own_draws.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    data = {"name": "python", "target": "own_draws:parts", "calibration": 4, "validation": 0.25, "test": 0.25}
    for model, seed in (("mobilenet_v1", 0), ("mobilenet_v2", 1)):
        spec = {"source": model, "num_classes": 10, "input_size": 32, "width": 0.25}
        recipe = {"model": spec, "data": data, "passes": [], "export": ["onnx"], "seed": seed}
        before = np.random.get_state()[1]
        mbcompress.compress(None, {**recipe, "measure": {"rounds": 5}}, out=tmp_path / model)
        assert np.array_equal(np.random.get_state()[1], before)
    drawn = importlib.import_module("own_draws").drawn
    assert drawn[0] == drawn[1]
