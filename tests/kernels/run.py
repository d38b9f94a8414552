"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer: `python tests/kernels/run.py [SHAPES]`."""

import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "plugins" / "mbcompress_winograd" / "csrc"
X86 = platform.machine() in ("x86_64", "AMD64")
LEVELS = {
    "level_portable.cpp": [],
    **({"level_avx2.cpp": ["-mavx2", "-mfma"]} if X86 else {}),
    **({"level_avx512.cpp": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"]} if X86 else {}),
}
FLAGS = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover", f"-I{SOURCES}"]


def main() -> int:
    """Build the driver, run it, and give its exit code."""
    flags = [*FLAGS, *(["-DMBCOMPRESS_X86"] if X86 else [])]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for source, extra in [*LEVELS.items(), ("depthwise.cpp", []), (str(HERE / "driver.cpp"), [])]:
            objects.append(str(Path(folder) / f"{Path(source).stem}.o"))
            subprocess.run(["g++", *flags, *extra, "-c", str(SOURCES / source), "-o", objects[-1]], check=True)
        program = str(Path(folder) / "driver")
        subprocess.run(["g++", *flags, *objects, "-o", program], check=True)
        return subprocess.run([program, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
