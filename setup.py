"""The compiled part, which an installation without a C compiler leaves out. The rest is in pyproject.toml."""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNEL = "pochade.engines.attention_kernel.attention"


class BuildLibrary(build_ext):
    """Builds a plain shared library for ctypes: not a Python module, so no Python headers are needed."""

    def get_ext_filename(self, fullname: str) -> str:
        """With a name that no importer takes for a module."""
        return str(Path(*fullname.split(".")).with_suffix(".so.1"))


setup(
    cmdclass={"build_ext": BuildLibrary},
    ext_modules=[
        Extension(
            KERNEL,
            ["pochade/engines/attention_kernel/attention.c"],
            extra_compile_args=["-O2"],
            depends=["pochade/engines/attention_kernel/attention_f32.h"],
            libraries=["m", "pthread"],
            optional=True,
        )
    ],
)
