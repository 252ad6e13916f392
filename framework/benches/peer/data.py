"""Images a second of one core: JPEG files decoded, and decoded and augmented as for pretraining."""

from __future__ import annotations

import sys
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

import numpy
import torch
from PIL import Image
from torchvision import transforms

WIDTH, HEIGHT, QUALITY = 500, 375, 90  # about what ImageNet's files are
KEYS = {"decode": "decode_images_per_s_per_core", "train": "train_images_per_s_per_core"}


def generate(folder: Path, count: int, photos: Path | None) -> None:
    """Writes `count` JPEG files, the same ones at every call: small photos enlarged, or clouds of colour, and texture.

    `photos` is a tar archive of small images, such as CIFAR-10's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bases = small_photos(photos, count) if photos else None
    for index in range(count):
        random = numpy.random.default_rng(index)
        if bases:
            enlarged = bases[index % len(bases)].resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            base = numpy.asarray(enlarged, dtype=numpy.float64)
        else:
            base = 128 + 50 * field(random, 2.0, channels=3)
        # One texture for all channels, as light and shade, and a little of a sensor's noise.
        pixels = base + 14 * field(random, 1.0, channels=1) + random.normal(0, 2, base.shape)
        image = Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))
        image.save(folder / f"{index:04}.jpg", quality=QUALITY)


def small_photos(archive: Path, count: int) -> list[Image.Image]:
    """The first images of a tar archive."""
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith((".jpg", ".png")) and (file := tar.extractfile(member)):
                images.append(Image.open(BytesIO(file.read())).convert("RGB"))
            if len(images) == count:
                break
    return images or sys.exit(f"{archive}: no images")


def field(random: numpy.random.Generator, power: float, channels: int) -> numpy.ndarray:
    """A random field `[H, W, channels]` of deviation 1 whose amplitudes fall with frequency, as those of photos do."""
    frequency = numpy.hypot(numpy.fft.fftfreq(HEIGHT)[:, None], numpy.fft.rfftfreq(WIDTH)[None, :])
    frequency[0, 0] = numpy.inf
    noise = numpy.fft.rfft2(random.normal(size=(HEIGHT, WIDTH, channels)), axes=(0, 1))
    values = numpy.fft.irfft2(noise / frequency[..., None] ** power, s=(HEIGHT, WIDTH), axes=(0, 1))
    return values / values.std()


def torchvision_rates(folder: Path, seconds: float) -> dict[str, float]:
    """What torchvision and Pillow reach in this process, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    files = sorted(folder.glob("*.jpg"))
    # As in the official main_pretrain.py.
    augment = transforms.Compose(
        [
            transforms.RandomResizedCrop(224, (0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    decode = rate(read, files, seconds)
    return {KEYS["decode"]: decode, KEYS["train"]: rate(lambda file: augment(read(file)), files, seconds)}


def read(file: Path) -> Image.Image:
    """The image, as torchvision's `ImageFolder` loads it."""
    with file.open("rb") as stream:
        return Image.open(stream).convert("RGB")


def rate(function: Callable[[Path], Any], files: list[Path], seconds: float) -> float:
    """Calls a second, after one round over the files."""
    for file in files:
        function(file)
    start, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        function(files[calls % len(files)])
        calls += 1
    return calls / elapsed


def summary(torchvision: list[dict[str, float]], ours: list[dict[str, float]]) -> dict[str, Any]:
    """Prints what both sides reached in each round and the ratios; returns them."""
    ratios = {}
    for name, key in KEYS.items():
        ratios[name] = [b[key] / a[key] for a, b in zip(torchvision, ours, strict=True)]
        print(f"{name}: torchvision {listed(torchvision, key)}, convmae {listed(ours, key)} images/s per core,")
        low, high = min(ratios[name]), max(ratios[name])
        print(f"  ours / torchvision {mean(ratios[name]):.2f} ({low:.2f} to {high:.2f})")
    return {"torchvision": torchvision, "convmae": ours, "ratios": ratios}


def listed(rates: list[dict[str, float]], key: str) -> str:
    return "/".join(f"{each[key]:.0f}" for each in rates)
