"""Where figures come from: commit, command, machine, versions, load. Every results file opens with it."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from typing import Any

from benchmarks.harness import CORES, ROOT

__all__ = ["commit", "provenance", "unused"]

PACKAGES = ["uvloop", "picows", "confluent-kafka", "cython"]


def commit() -> str:
    """The commit that is measured; `-dirty` if files differ from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    return name + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")


def provenance(command: str, load_before: tuple[float, float, float]) -> dict[str, Any]:
    """What to know of a run besides its figures."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "command": command,
        "machine": {
            "cpu": _cpu(),
            "cores": len(CORES),
            "kernel": platform.release(),
            "load_average_before": load_before,
            "load_average_after": os.getloadavg(),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def unused(path: Path) -> Path:
    """The path, or with the first number behind its name that no file has: nothing that was measured is overwritten."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(each for each in chain([path], others) if not each.exists())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
