"""Builds the kernels of mbcompress_winograd where there is a C++ compiler; without one, the install goes on."""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("plugins/mbcompress_winograd/csrc")
X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {  # each file of kernels is compiled for its own instructions; which one runs is decided where it runs
    "level_portable.cpp": [],
    **({"level_avx2.cpp": ["-mavx2", "-mfma"]} if X86 else {}),
    **({"level_avx512.cpp": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma"]} if X86 else {}),
}
FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", *(["-DMBCOMPRESS_X86"] if X86 else [])]


class BuildKernels(build_ext):
    """Compiles each level with flags of its own; the library is no Python module, and serves every version."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the levels, then everything else and link."""
        for source, flags in LEVELS.items():
            ext.extra_objects += self.compiler.compile(
                [str(SOURCES / source)], output_dir=self.build_temp, extra_postargs=[*FLAGS, *flags]
            )
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        """Without Python's tag."""
        return f"{fullname.replace('.', '/')}.so"


setup(
    ext_modules=[
        Extension(
            "mbcompress_winograd.kernels",
            sources=[str(SOURCES / name) for name in ("depthwise.cpp", "register.cpp")],
            depends=[str(path) for path in sorted(SOURCES.iterdir())],
            extra_compile_args=FLAGS,
            extra_link_args=["-Wl,-s"] if platform.system() == "Linux" else [],
            libraries=["dl"] if platform.system() == "Linux" else [],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
