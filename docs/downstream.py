"""Compress your own network with your own data loaders: `python downstream.py`."""

from torch import nn, randint, randn
from torch.utils.data import DataLoader, TensorDataset

import mbcompress
from mbcompress.passes import Distill, Prune, Qat, Train


def bright_corners(count: int) -> TensorDataset:
    """Placeholder for your dataset: noise with one brighter corner, which is the label."""
    images, labels = 0.5 * randn(count, 3, 32, 32), randint(4, (count,))
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 16 * (label // 2) :, 16 * (label % 2) :][:, :16, :16] += 0.4
    return TensorDataset(images, labels)


if __name__ == "__main__":
    net = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU())
    net.extend([nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 4)])
    data = {name: DataLoader(bright_corners(500), batch_size=64) for name in ("train", "test")}
    passes = [Train(training={"epochs": 8}), Prune(target_macs=0.5), Distill(training={"epochs": 8}), Qat()]
    result = mbcompress.compress(net, {"passes": passes, "measure": {"baseline_after": 1, "rounds": 20}}, data)
    print(result.artifacts[0], result.report["ratio"]["size"], result.report["result"]["accuracy"]["top1"]["value"])
