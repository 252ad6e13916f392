"""What detection does with regions, by torchvision and by our program: RoIAlign and its gradient, NMS, pasted masks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchvision.ops import batched_nms, roi_align

# Of the box head of a training step at 1,024 pixels: one level of the pyramid.
CHANNELS, STRIDE, IMAGE, REGIONS, BINS = 256, 16, 1024, 512, 7
# Of the RPN: 2,000 of each level but the last one, which has fewer.
PROPOSALS = [2000, 2000, 2000, 2000, 768]
# Of an image of COCO, as large as it is read in evaluation.
MASKS, HEIGHT, WIDTH = 100, 800, 1333
# Sums over more than six million values of f32.
TOLERANCE = 1e-4
PRODUCTS = ("roi_align", "roi_align_grad", "nms", "paste")


def generate(file: Path) -> None:
    """Writes the inputs of both sides; maps have their channels last, as ours have."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    side = IMAGE // STRIDE
    boxes = torch.cat([scattered(count, 8, 400, IMAGE, IMAGE) for count in PROPOSALS])
    groups = torch.cat([torch.full((count,), float(level)) for level, count in enumerate(PROPOSALS)])
    inputs = {
        "map": torch.randn(1, side, side, CHANNELS),
        "scale": torch.tensor([1 / STRIDE]),
        # As large as those that belong to this level.
        "rois": scattered(REGIONS, 224, 448, IMAGE, IMAGE),
        "grad": torch.randn(REGIONS, BINS, BINS, CHANNELS),
        # Every box near an object, many near the same one.
        "boxes": (boxes[torch.arange(len(boxes)) % 100 * 80] + 12 * torch.randn(len(boxes), 4)).sort(dim=1).values,
        "scores": torch.randn(len(boxes)),
        "groups": groups,
        "masks": F.interpolate(torch.rand(MASKS, 1, 5, 5), (28, 28), mode="bilinear")[:, 0].contiguous(),
        "mask_boxes": scattered(MASKS, 16, 600, HEIGHT, WIDTH),
        "image": torch.tensor([float(HEIGHT), float(WIDTH)]),
    }
    save_file(inputs, file)


def scattered(count: int, least: int, most: int, height: int, width: int) -> torch.Tensor:
    """Boxes anywhere in an image."""
    sides = least + (most - least) * torch.rand(count, 2)
    corners = torch.rand(count, 2) * (torch.tensor([width, height]) - sides)
    return torch.cat([corners, corners + sides], dim=1)


def torchvision(file: Path, rounds: int) -> dict[str, Any]:
    """Seconds of every round in this process, and what the work gives."""
    inputs = load_file(file)
    maps = inputs["map"].permute(0, 3, 1, 2).contiguous().requires_grad_()
    grad = inputs["grad"].permute(0, 3, 1, 2).contiguous()
    scale, (height, width) = inputs["scale"].item(), inputs["image"].int().tolist()

    def align() -> torch.Tensor:
        return roi_align(maps, [inputs["rois"]], BINS, scale, sampling_ratio=-1, aligned=True)

    aligned = align()

    def gradient() -> torch.Tensor:
        return torch.autograd.grad(aligned, maps, grad, retain_graph=True)[0]

    def kept() -> torch.Tensor:
        return batched_nms(inputs["boxes"], inputs["scores"], inputs["groups"], 0.7)

    def pasted() -> list[torch.Tensor]:
        return [paste(*each, height, width) for each in zip(inputs["masks"], inputs["mask_boxes"], strict=True)]

    report = {"roi_align_grad": timed(rounds, gradient, total)}
    with torch.no_grad():
        return report | {
            "roi_align": timed(rounds, align, total),
            "nms": timed(rounds, kept, len),
            "paste": timed(rounds, pasted, lambda images: sum(int(image.sum()) for image in images)),
        }


def total(values: torch.Tensor) -> float:
    return values.sum(dtype=torch.float64).item()


def paste(mask: torch.Tensor, box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The image of an object whose mask is stretched over its box, by PyTorch's `grid_sample` where the mask may be, as detectron2 does."""
    x0, y0, x1, y1 = box.tolist()
    left, top = max(int(x0) - 1, 0), max(int(y0) - 1, 0)
    right, bottom = min(int(x1) + 2, width), min(int(y1) + 2, height)
    across = (torch.arange(left, right) + 0.5 - x0) / (x1 - x0) * 2 - 1
    down = (torch.arange(top, bottom) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack([across[None, :].expand(len(down), -1), down[:, None].expand(-1, len(across))], dim=2)
    stretched = F.grid_sample(mask[None, None], grid[None], align_corners=False)
    image = torch.zeros(height, width, dtype=torch.bool)
    image[top:bottom, left:right] = stretched[0, 0] >= 0.5
    return image


def timed(rounds: int, work: Callable[[], Any], result: Callable[[Any], float]) -> dict[str, Any]:
    """Seconds of every round after a first one, and what the work gives as a number."""
    number, seconds = result(work()), []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "result": number}


def compare(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints milliseconds of both sides and their ratios; ends the program where the results differ."""
    ratios = {}
    for name in PRODUCTS:
        expected, found = theirs[0][name]["result"], ours[0][name]["result"]
        if abs(found - expected) > TOLERANCE * max(abs(expected), 1):
            sys.exit(f"{name}: torchvision gives {expected}, convmae {found}")
        sides = [[1e3 * median(each[name]["seconds"]) for each in side] for side in (theirs, ours)]
        ratios[name] = [a / b for a, b in zip(*sides, strict=True)]
        shown = [", ".join(f"{milliseconds:.2f}" for milliseconds in side) for side in sides]
        low, high = min(ratios[name]), max(ratios[name])
        print(f"{name}: torchvision {shown[0]} ms, convmae {shown[1]} ms; {mean(ratios[name]):.1f} ({low:.1f} to {high:.1f})")
    return {"torchvision": theirs, "convmae": ours, "ratios": ratios}
