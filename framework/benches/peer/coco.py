"""Evaluation of detections by pycocotools and by our program: the same figures, and the time of each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import numpy
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

WIDTH, HEIGHT, CLASSES = 640, 480, 80
OBJECTS, DETECTIONS = 36_000, 147_000  # about those of COCO's 5,000 validation images and of a detector on them
TYPES = {"bbox": "box", "segm": "mask"}
# In percent: both add up doubles, in another order.
TOLERANCE = 1e-9


def generate(folder: Path, images: int) -> tuple[Path, Path]:
    """Annotations of so many images, and detections: objects that were moved, and others that are not there."""
    annotations, results = folder / f"instances-{images}.json", folder / f"results-{images}.json"
    if annotations.exists() and results.exists():
        return annotations, results
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    share = images / 5_000
    objects = [scattered(random, index % images) for index in range(round(OBJECTS * share))]
    found = []
    for index in range(round(DETECTIONS * share)):
        if index % 3 == 0:
            image, category, box = objects[random.integers(len(objects))]
            box = (numpy.array(box) * random.normal(1, 0.08, 4)).tolist()
            score = random.uniform(0.2, 1)
        else:
            image, category, box = scattered(random, random.integers(images))
            score = random.uniform(0.05, 0.6)
        found.append(
            {
                "image_id": int(image) + 1,
                "category_id": int(category) + 1,
                "bbox": box,
                # Few digits, so that some scores are equal.
                "score": round(score, 3),
                "segmentation": ellipse(box),
            }
        )
    truth = {
        "images": [{"id": image + 1, "width": WIDTH, "height": HEIGHT} for image in range(images)],
        "annotations": [annotated(index, *of) for index, of in enumerate(objects)],
        "categories": [{"id": category + 1, "name": f"class {category}"} for category in range(CLASSES)],
    }
    annotations.write_text(json.dumps(truth), encoding="utf-8")
    results.write_text(json.dumps(found), encoding="utf-8")
    return annotations, results


def scattered(random: numpy.random.Generator, image: int) -> tuple[int, int, list[float]]:
    """An object anywhere in an image: its class, and a box from a few pixels to most of the image."""
    width, height = numpy.exp(random.uniform(numpy.log(8), numpy.log([WIDTH * 0.8, HEIGHT * 0.8])))
    left, top = random.uniform(0, WIDTH - width), random.uniform(0, HEIGHT - height)
    # Some classes have more objects than others.
    category = int(CLASSES * random.uniform() ** 2)
    return image, category, [left, top, width, height]


def outline(box: list[float]) -> list[float]:
    """The ellipse in a box, as a polygon of 24 corners."""
    left, top, width, height = box
    angles = numpy.linspace(0, 2 * numpy.pi, 24, endpoint=False)
    x = left + width * (0.5 + 0.5 * numpy.cos(angles))
    y = top + height * (0.5 + 0.5 * numpy.sin(angles))
    return numpy.stack([x.clip(0, WIDTH), y.clip(0, HEIGHT)], axis=1).round(2).ravel().tolist()


def ellipse(box: list[float]) -> dict[str, Any]:
    runs = mask.merge(mask.frPyObjects([outline(box)], HEIGHT, WIDTH))
    return {"size": runs["size"], "counts": runs["counts"].decode()}


def annotated(index: int, image: int, category: int, box: list[float]) -> dict[str, Any]:
    polygon = outline(box)
    area = float(mask.area(mask.merge(mask.frPyObjects([polygon], HEIGHT, WIDTH))))
    common = {"id": index + 1, "image_id": image + 1, "category_id": category + 1, "iscrowd": 0}
    return common | {"bbox": box, "area": area, "segmentation": [polygon]}


def pycocotools(annotations: Path, results: Path, iou_type: str) -> dict[str, Any]:
    """The figures, and the seconds from files to figures, in this process."""
    start = time.perf_counter()
    truth = COCO(str(annotations))
    found = json.loads(results.read_text(encoding="utf-8"))
    if iou_type == "segm":
        # As detectron2 does: the area of a detection is that of its mask.
        for each in found:
            del each["bbox"]
    evaluation = COCOeval(truth, truth.loadRes(found), iou_type)
    loaded = time.perf_counter()
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ended = time.perf_counter()
    stats = evaluation.stats.tolist()
    return {"seconds": ended - start, "evaluation_seconds": ended - loaded, "stats": stats}


def compare(iou_type: str, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints the seconds of every round and their ratios; ends the program where figures differ."""
    figures = [value for name, value in ours[0]["metrics"].items() if name.startswith(TYPES[iou_type])]
    expected = [100 * value for value in theirs[0]["stats"] if value > -1]
    if len(figures) != len(expected) or any(abs(a - b) > TOLERANCE for a, b in zip(figures, expected, strict=True)):
        sys.exit(f"{iou_type}: the figures differ: pycocotools {expected}, convmae {figures}")
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(theirs, ours, strict=True)]
    seconds = ", ".join(f"{each['seconds']:.2f} ({each['evaluation_seconds']:.2f} without reading)" for each in theirs)
    print(f"{iou_type}: pycocotools {seconds} s,")
    print("  convmae", ", ".join(f"{each['seconds']:.2f}" for each in ours), "s,")
    print(f"  pycocotools / ours {mean(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}), the same figures")
    return {"pycocotools": theirs, "convmae": ours, "ratios": ratios}
