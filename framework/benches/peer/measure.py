"""Training steps of PyTorch and of our program in turn, each in a process of its own.

Standard library only: on Linux a child starts with its parent's peak memory as its own, so the parent stays small.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from recipe import Recipe, environment


@dataclass(frozen=True)
class Settings:
    """How to measure. Both sides take `warmup` steps before the `steps` that count."""

    batch: int
    steps: int
    warmup: int
    rounds: int
    threads: int
    device: str
    precision: str
    compile: bool
    forward: bool


@dataclass(frozen=True)
class Sample:
    """One process: seconds of each step, and the most memory it held."""

    seconds: list[float]
    peak_memory_bytes: int
    details: dict[str, Any]

    def images_per_s(self, batch: int) -> float:
        return batch / median(self.seconds)


def compare(recipe: Recipe, model: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Runs PyTorch's model, ours, PyTorch's, ours ...; prints each, then the ratios; returns all of it."""
    task = {"model": model, "image_size": recipe.value("image_size"), "settings": asdict(settings)}
    # The official recipe steps once in 24 batches; here every batch is a full step on both sides.
    ours = Recipe(
        recipe.program,
        recipe.path,
        [
            *recipe.settings,
            f"data.train.batch_size={settings.batch}",
            "train.accumulate=1",
            *(["precision=bf16"] if settings.precision == "bf16" else []),
        ],
    )
    machine = f"{processor()}, {settings.threads} threads, {settings.device}, {settings.precision}"
    if settings.compile:
        machine += ", PyTorch's model compiled"
    what = "forwards" if settings.forward else "steps"
    print(f"{machine}\n{recipe.path}, batch {settings.batch}, {settings.steps} {what} after {settings.warmup}")
    samples: dict[str, list[Sample]] = {"pytorch": [], "convmae": []}
    for _ in range(settings.rounds):
        show("pytorch", time_pytorch(task, settings), settings.batch, samples)
        show("convmae", time_convmae(ours, settings), settings.batch, samples)
    pairs = list(zip(samples["pytorch"], samples["convmae"], strict=True))
    speed = [b.images_per_s(settings.batch) / a.images_per_s(settings.batch) for a, b in pairs]
    memory = [b.peak_memory_bytes / a.peak_memory_bytes for a, b in pairs]
    print(f"images/s, ours / PyTorch:    {spread(speed)}\npeak memory, ours / PyTorch: {spread(memory)}")
    return {
        "machine": machine,
        "recipe": str(recipe.path),
        "settings": asdict(settings),
        "model": model,
        "samples": {side: [asdict(sample) for sample in taken] for side, taken in samples.items()},
        "speed_ratio": {"mean": mean(speed), "all": speed},
        "memory_ratio": {"mean": mean(memory), "all": memory},
    }


def time_pytorch(task: dict[str, Any], settings: Settings) -> Sample:
    peer = Path(__file__).with_name("peer.py")
    answer, memory = run_child([sys.executable, str(peer), "step", json.dumps(task)], settings.threads)
    return Sample(answer.pop("seconds"), answer["device_memory_bytes"] or memory, answer)


def time_convmae(recipe: Recipe, settings: Settings) -> Sample:
    count = ["--json", "--steps", str(settings.steps), "--warmup", str(settings.warmup)]
    count += ["--forward"] if settings.forward else []
    answer, memory = run_child([*recipe.arguments("bench"), *count], settings.threads)
    seconds = answer["seconds_per_step"]["all"]
    return Sample(seconds, memory if settings.device == "cpu" else answer["peak_memory_bytes"], answer)


def run_child(command: list[str], threads: int) -> tuple[dict[str, Any], int]:
    """The JSON object that a command prints, and its largest resident set in bytes."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(threads))
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"failed ({child.returncode}): {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(output), usage.ru_maxrss * unit


def show(side: str, sample: Sample, batch: int, samples: dict[str, list[Sample]]) -> None:
    """Prints a sample and adds it to the others."""
    samples[side].append(sample)
    seconds = sample.seconds
    imported = sample.details.get("memory_after_import_bytes")
    note = f" ({imported / 2**30:.2f} once torch is imported)" if imported else ""
    print(
        f"{side}: {sample.images_per_s(batch):6.3f} images/s, {median(seconds):.3f} s a step"
        f" ({min(seconds):.3f} to {max(seconds):.3f}), peak memory {sample.peak_memory_bytes / 2**30:.2f} GiB{note}",
        flush=True,
    )


def spread(ratios: list[float]) -> str:
    return f"{mean(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def processor() -> str:
    """The name of the CPU, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
