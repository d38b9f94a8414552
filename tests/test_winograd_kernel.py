"""The compiled operator against conv2d in double precision, at each level of instructions, and as torch sees it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mbcompress_winograd.library import KERNELS
from mbcompress_winograd.operators import choose_level, operator, register
from mbcompress_winograd.reference import depthwise3x3, pack
from mbcompress_winograd.tiles import ACTIVATIONS, TILES
from torch.nn import functional

compiled = pytest.mark.skipif(not KERNELS.is_file(), reason="the kernels were not built: no C++ compiler")
KERNEL_TILES = [name for name, tile in TILES.items() if tile.kernel]
EXACT = {"none": lambda x: x, "relu": torch.relu, "relu6": functional.relu6, "hardswish": functional.hardswish}
BOUND = 2e-6
"""Largest error over the largest product that is summed; float32 rounds to 6e-8."""


@pytest.fixture
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    best = register().level
    if not choose_level(request.param):
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    choose_level(best)


def layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same values in other memory."""
    n, c, h, w = x.shape
    wide = torch.full((n, c + 3, h + 2, w + 1), torch.nan).contiguous(memory_format=torch.channels_last)
    wide[:, 1 : c + 1, 1 : h + 1, :w] = x
    narrow = torch.full((n, c + 1, h, w + 2), torch.nan)
    narrow[:, :c, :, 2:] = x
    return {
        "contiguous": x.contiguous(),
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "slice of channels_last": wide[:, 1 : c + 1, 1 : h + 1, :w],
        "slice": narrow[:, :c, :, 2:],
        "every other image": x.repeat_interleave(2, 0)[::2],
    }


WORST: Counter[str] = Counter()
COUNTS: Counter[str] = Counter()


@compiled
@pytest.mark.parametrize("level", ["avx512", "avx2", "portable"], indirect=True)
@settings(
    deadline=None,
    max_examples=int(os.environ.get("MBCOMPRESS_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # one level for all shapes is what is meant
)
@given(
    tile=st.sampled_from(KERNEL_TILES),
    batch=st.integers(1, 8),
    channels=st.one_of(st.integers(1, 40), st.integers(1, 1100)),
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    stride=st.sampled_from([1, 2]),
    activation=st.sampled_from(ACTIVATIONS),
    layout=st.sampled_from(["contiguous", "channels_last", "slice of channels_last", "slice", "every other image"]),
    seed=st.integers(0, 2**31),
)
def test_kernels_are_conv2d(
    level: str, tile: str, batch: int, channels: int, height: int, width: int, stride: int, activation: str,
    layout: str, seed: int,
) -> None:  # fmt: skip
    if batch * channels * height * width > 400_000:  # as many values, in another shape
        height, width = min(height, 20), min(width, 20)
        batch = 1 + batch % 2
    tile = tile if stride == 1 else "direct"
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (
        torch.randn(shape, generator=generator)
        for shape in ((batch, channels, height, width), (channels, 1, 3, 3), (channels,))
    )
    given_x = layouts(x)[layout]
    with torch.no_grad():
        y = operator()(given_x, pack(weight, TILES[tile]), bias, stride, ACTIVATIONS.index(activation))
        exact = functional.conv2d(x.double(), weight.double(), bias.double(), stride, 1, groups=channels)
        expected = EXACT[activation](exact)
    assert y.is_contiguous(memory_format=torch.channels_last)
    error = float((y - expected).abs().max() / exact.abs().max().clamp(min=1))
    name = f"{level} {tile} stride {stride}"
    WORST[name] = max(WORST[name], error)  # type: ignore[assignment]
    COUNTS[name] += 1
    assert error < BOUND


@compiled
def test_worst_errors_are_said(record_property: pytest.FixtureRequest) -> None:
    """After the tests above; `pytest -rP` shows it."""
    for name in sorted(WORST):
        print(f"{name}: {COUNTS[name]} shapes, worst error {WORST[name]:.1e}")


@compiled
@pytest.mark.parametrize("tile", KERNEL_TILES)
def test_nan_and_infinity_go_through(tile: str) -> None:
    x = torch.zeros(1, 20, 6, 6)
    x[0, 3, 2, 2], x[0, 17, 4, 4] = torch.nan, torch.inf
    y = operator()(x, pack(torch.ones(20, 1, 3, 3), TILES[tile]), torch.zeros(20), 1, ACTIVATIONS.index("relu6"))
    assert y[0, 3, 2, 2].isnan()
    assert y[0, 4].eq(0).all()


@compiled
def test_nothing_is_read_beyond_the_input() -> None:
    """Neighbours in memory are NaN."""
    for layout, x in layouts(torch.randn(1, 17, 5, 3)).items():
        for tile in KERNEL_TILES:
            y = operator()(x, pack(torch.randn(17, 1, 3, 3), TILES[tile]), torch.zeros(17), 1, 0)
            assert y.isfinite().all(), (layout, tile)


def test_empty_batches() -> None:
    y = operator()(torch.zeros(0, 8, 4, 4), torch.zeros(9, 8), torch.zeros(8), 2, 0)
    assert y.shape == (0, 8, 2, 2)


@compiled
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"x": torch.zeros(8, 4, 4)}, "x must be"),
        ({"x": torch.zeros(1, 8, 4, 4, dtype=torch.float64)}, "must be float32"),
        ({"weight": torch.zeros(10, 8)}, "9, 12 or 16 rows"),
        ({"weight": torch.zeros(9, 7)}, "as many channels"),
        ({"weight": torch.zeros(8, 9).T}, "weight must be contiguous"),
        ({"bias": torch.zeros(9)}, "as many channels"),
        ({"stride": 3}, "stride must be"),
        ({"weight": torch.zeros(12, 8), "stride": 2}, "stride must be"),
        ({"activation": 4}, "activation must be"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], problem: str) -> None:
    arguments = {
        "x": torch.zeros(1, 8, 4, 4), "weight": torch.zeros(9, 8), "bias": torch.zeros(8), "stride": 1, "activation": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=problem):
        operator()(*{**arguments, **change}.values())  # type: ignore[arg-type]


@pytest.mark.parametrize("tile", KERNEL_TILES)
def test_gradients_are_those_of_the_reference(tile: str) -> None:
    inputs = [torch.randn(2, 6, 5, 7), pack(torch.randn(6, 1, 3, 3), TILES[tile]), torch.randn(6)]
    ours, theirs = ([each.clone().requires_grad_() for each in inputs] for _ in range(2))
    operator()(*ours, 1, 3).square().sum().backward()  # type: ignore[call-arg]
    depthwise3x3(*theirs, 1, 3).square().sum().backward()  # type: ignore[call-arg]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_torch_agrees_with_the_registration() -> None:
    register()
    inputs = (torch.randn(2, 6, 5, 7, requires_grad=True), pack(torch.randn(6, 1, 3, 3), TILES["f2"]), torch.randn(6))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.mbcompress.depthwise3x3.default, (*inputs, 1, 2), test_utils=checks)


THREADS = """
import torch
from mbcompress_winograd.operators import operator
from mbcompress_winograd.reference import pack
from mbcompress_winograd.tiles import TILES
torch.set_num_threads(2)
torch.manual_seed(0)
x = torch.randn(1, 64, 57, 57).contiguous(memory_format=torch.channels_last)
for tile in ("direct", "f2", "f2x2"):
    arguments = (x, pack(torch.randn(64, 1, 3, 3), TILES[tile]), torch.randn(64), 1, 2)
    two = operator()(*arguments)
    torch.set_num_threads(1)
    assert torch.equal(two, operator()(*arguments)), tile
    torch.set_num_threads(2)
print("same")
"""


@compiled
def test_threads_change_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["same"], done.stderr


@compiled
@pytest.mark.parametrize("name", ["portable", "avx2", "none of them"])
def test_the_environment_names_a_level(name: str) -> None:
    asked = "from mbcompress_winograd.operators import register; print(register().level)"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True,
        env={**os.environ, "MBCOMPRESS_ISA": name},
    )  # fmt: skip
    found = done.stdout.split()[-1]
    assert found == name if name == "portable" else found in ("avx512", "avx2", "portable")


WITHOUT = """
from pathlib import Path
from mbcompress_winograd import library, operators
operators.KERNELS = library.KERNELS.with_name("absent.so")
import torch
status = operators.register()
y = operators.operator()(torch.ones(1, 3, 4, 4), torch.ones(9, 3), torch.zeros(3), 1, 0)
assert y.is_contiguous(memory_format=torch.channels_last)
print(status.compiled, float(y.sum()), status.reason)
"""


def test_without_kernels_the_reference_serves(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.stdout.split(maxsplit=2)[:2] == ["False", "300.0"], done.stderr
    assert "it was not built" in done.stdout
