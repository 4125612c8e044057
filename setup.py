"""The build backend: this file compiles the Cython half, maturin the Rust half and the wheel.

`pip install .` calls the hooks; `python setup.py` alone recompiles the Cython modules in place, and only those whose
sources changed.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import maturin
from Cython.Build import cythonize
from maturin import *  # noqa: F403  every PEP 517 hook that is not wrapped below
from setuptools import Distribution, Extension

FLAGS = ["-O3", "-Wno-unreachable-code"]
MODULES = [
    Extension("fanout._core", ["fanout/_core.pyx"], extra_compile_args=FLAGS),
    Extension("fanout.transports._websocket", ["fanout/transports/_websocket.pyx"], extra_compile_args=FLAGS),
]


def compile_cython() -> None:
    """Compiles what changed since the last time, beside its source."""
    modules = cythonize(MODULES, quiet=True, language_level=3)  # type: ignore[no-untyped-call]
    command = Distribution({"name": "fanout", "ext_modules": modules}).get_command_obj("build_ext")
    command.inplace = True
    command.ensure_finalized()
    command.run()


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    # A wheel holds this interpreter's modules only; `include` would take every one that lies in the tree.
    for stale in Path("fanout").rglob("_*.so"):
        stale.unlink()
    compile_cython()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    compile_cython()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))


if __name__ == "__main__":
    compile_cython()
