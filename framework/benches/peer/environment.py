"""A Python that has what is compared with: the current one, the one that is asked for, or a virtual environment made here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

# Module name to the name of its package on PyPI.
PACKAGES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchvision": "torchvision",
}

# What detectron2 imports, besides.
DETECTRON2 = {
    name: name
    for name in ("cloudpickle", "fvcore", "iopath", "matplotlib", "omegaconf", "pycocotools", "scipy", "tabulate", "termcolor", "timm", "tqdm")
}

# For the evaluation of detections alone.
COCO = {"numpy": "numpy", "pycocotools": "pycocotools"}


def enter(python: Path | None, folder: Path, packages: dict[str, str]) -> None:
    """Returns in an interpreter with all `packages`: starts this program over in `python` or in the environment `folder`.

    Without `python`, an interpreter that has all packages goes on as it is.
    """
    if python and python.absolute() != Path(sys.executable):
        restart(python.absolute())
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return
    if python:
        sys.exit(f"{python} lacks {', '.join(missing)}")
    if Path(sys.prefix).resolve() != folder.resolve():
        if not (folder / "bin/python").exists():
            print(f"making a virtual environment in {folder}", file=sys.stderr)
            venv.create(folder, with_pip=True)
        restart(folder.absolute() / "bin/python")
    # Its output is kept off ours, which may be JSON.
    subprocess.run([sys.executable, "-m", "pip", "install", *missing], check=True, stdout=sys.stderr)
    importlib.invalidate_caches()


def restart(python: Path) -> None:
    """Replaces this process by the same command in another interpreter."""
    os.execv(python, [str(python), *sys.argv])
