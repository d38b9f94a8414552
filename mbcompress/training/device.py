"""Where passes compute."""

import torch

from mbcompress.errors import MbcompressError

CHOICES = ("auto", "cpu", "cuda", "mps")


def choose(name: str) -> torch.device:
    """The named device; 'auto' is the first accelerator there is, or the CPU.

    Raises:
        MbcompressError: this machine, or this build of torch, has no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in present.items() if there))
    if not present.get(name, False):
        usable = ", ".join(device for device, there in present.items() if there)
        raise MbcompressError(f"--device {name}: not available on this machine (usable: {usable})")
    return torch.device(name)
