"""Choose the device for the passes."""

import torch

from mbcompress.errors import MbcompressError


def choose(name: str) -> torch.device:
    """Return the named device; 'auto' selects CUDA, then MPS, then the CPU.

    Raises:
        MbcompressError: the device is not available on this machine or in this build of torch.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in present.items() if there))
    if not present.get(name, False):
        usable = ", ".join(device for device, there in present.items() if there)
        raise MbcompressError(f"--device {name}: not available on this machine (usable: {usable})")
    return torch.device(name)
