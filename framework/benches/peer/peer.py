#!/usr/bin/env python3
"""Compares convmae with PyTorch: the same loss, speed and memory of training steps and forwards, the data path, regions of detection; with pycocotools: the evaluation of detections (README.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import environment
from measure import Settings, compare, run_child
from recipe import REPOSITORY, Config, Recipe

TARGET = REPOSITORY / "target"
# Of 196 patches 194 are kept: nearly the step of finetuning, with a loss all the same.
DENSE = "model.mask.mask_ratio=0.006"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, help="the interpreter to use; it must have all packages")
    parser.add_argument("--venv", type=Path, default=TARGET / "peer-venv", help="where to make an environment")
    commands = parser.add_subparsers(dest="command", required=True)

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "recipe", type=Path, nargs="?", default=REPOSITORY / "recipes/pretrain/convmae_base.yaml"
    )
    model.add_argument("--convmae", type=Path, default=TARGET / "release/convmae", help="our program")
    model.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the recipe")
    model.add_argument("--dense", action="store_true", help=f"keep nearly every patch: --set {DENSE}")
    model.add_argument("--original", type=Path, help="a checkout of Alpha-VL/ConvMAE, to run its model instead")

    loss = commands.add_parser("loss", parents=[model], help="check that losses and gradients are the same")
    loss.add_argument("--batch", type=int, default=2)
    loss.add_argument("--seed", type=int, default=0)
    loss.set_defaults(run=run_loss)

    time = commands.add_parser("time", parents=[model], help="time training steps of both in turn")
    time.add_argument(
        "--detectron2", type=Path, help="a checkout of OpenGVLab/Official-ConvMAE-Det, to run its detector instead"
    )
    time.add_argument("--batch", type=int, default=8)
    time.add_argument("--steps", type=int, default=6)
    time.add_argument("--warmup", type=int, default=2)
    time.add_argument("--rounds", type=int, default=2)
    time.add_argument("--threads", type=int, default=os.cpu_count())
    time.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="PyTorch's; ours is that of the build"
    )
    time.add_argument(
        "--precision",
        choices=("f32", "tf32", "amp", "bf16"),
        default="f32",
        help="PyTorch's; with bf16, which is autocast to bfloat16, ours too",
    )
    time.add_argument("--compile", action="store_true", help="let torch.compile make PyTorch's model faster")
    time.add_argument("--forward", action="store_true", help="time the forward of an evaluation instead")
    time.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    time.set_defaults(run=run_time)

    accuracy = commands.add_parser("accuracy", help="check that the original code makes the same of a run's weights")
    accuracy.add_argument("root", type=Path, metavar="RUN", help="a finished run of a classifier")
    accuracy.add_argument("--convmae", type=Path, default=TARGET / "release/convmae", help="our program")
    accuracy.add_argument("--original", type=Path, required=True, help="a checkout of Alpha-VL/ConvMAE")
    accuracy.add_argument("--batch", type=int, default=250)
    accuracy.set_defaults(run=run_accuracy)

    data = commands.add_parser("data", help="time decoding and augmentation on one core of both in turn")
    data.add_argument("--images", type=Path, help="a folder of JPEG files; generated ones if left out")
    data.add_argument("--photos", type=Path, help="a tar archive of small photos to generate them from")
    data.add_argument("--count", type=int, default=64, help="of generated files")
    data.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    data.add_argument("--rounds", type=int, default=3)
    data.add_argument("--program", type=Path, default=TARGET / "release/examples/data_path", help="our side")
    data.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    data.set_defaults(run=run_data)

    coco = commands.add_parser("coco", help="time the evaluation of detections of both in turn")
    coco.add_argument("--images", type=int, default=5_000)
    coco.add_argument("--files", type=Path, nargs=2, metavar=("ANNOTATIONS", "RESULTS"), help="evaluate these")
    coco.add_argument("--type", choices=("bbox", "segm"), action="append", help="what is compared; both if left out")
    coco.add_argument("--rounds", type=int, default=3)
    coco.add_argument("--threads", type=int, default=os.cpu_count(), help="of our program")
    coco.add_argument("--convmae", type=Path, default=TARGET / "release/convmae", help="our program")
    coco.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    coco.set_defaults(run=run_coco)

    regions = commands.add_parser("regions", help="time what detection does with regions of both in turn")
    regions.add_argument("--repeat", type=int, default=10, help="of each measurement")
    regions.add_argument("--rounds", type=int, default=3)
    regions.add_argument("--threads", type=int, default=os.cpu_count())
    regions.add_argument("--program", type=Path, default=TARGET / "release/examples/regions", help="our side")
    regions.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    regions.set_defaults(run=run_regions)

    ceilings = commands.add_parser("ceilings", help="time what the device can do at most: copies, products, launches")
    ceilings.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    ceilings.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    ceilings.set_defaults(run=run_ceilings)

    # What `time`, `data`, `regions` and `coco` start, in processes of their own.
    step = commands.add_parser("step")
    step.add_argument("task", type=json.loads)
    step.set_defaults(run=run_step)
    torchvision = commands.add_parser("torchvision")
    torchvision.add_argument("folder", type=Path)
    torchvision.add_argument("seconds", type=float)
    torchvision.set_defaults(run=run_torchvision)
    of_regions = commands.add_parser("torchvision-regions")
    of_regions.add_argument("file", type=Path)
    of_regions.add_argument("repeat", type=int)
    of_regions.set_defaults(run=run_torchvision_regions)
    pycocotools = commands.add_parser("pycocotools")
    pycocotools.add_argument("annotations", type=Path)
    pycocotools.add_argument("results", type=Path)
    pycocotools.add_argument("type")
    pycocotools.set_defaults(run=run_pycocotools)
    return parser.parse_args()


def recipe_of(args: argparse.Namespace) -> Recipe:
    require(args.convmae, "cargo build --release")
    return Recipe(args.convmae, args.recipe, [*args.set, *([DENSE] if args.dense else [])])


def require(program: Path, build: str) -> None:
    if not program.is_file():
        sys.exit(f"{program} is not there: build it with `{build}`")


def builder(original: str | Path | None) -> Callable[[Config], Any]:
    """What makes the PyTorch model: ours, or that of the original repository."""
    if original is None:
        from model import Classification, Pretraining
        from segmentor import Segmentation

        return lambda config: (
            Segmentation(config) if config.decode_channels else Classification(config) if config.num_classes else Pretraining(config)
        )
    import original as official

    return lambda config: official.build(Path(original), config)


def run_loss(args: argparse.Namespace) -> None:
    from loss import check_goldens, check_ours, check_segmentor

    recipe, build = recipe_of(args), builder(args.original)
    config = recipe.config()
    if config.decode_channels:
        sys.exit(0 if check_segmentor(recipe, build) else 1)
    agree = [check_goldens(recipe, build), check_ours(recipe, build, config, args.batch, args.seed)]
    sys.exit(0 if all(agree) else 1)


def run_accuracy(args: argparse.Namespace) -> None:
    from accuracy import check

    require(args.convmae, "cargo build --release")
    recipe = Recipe(args.convmae, args.root / "recipe.lock.yaml", [])
    sys.exit(0 if check(recipe, args.root, args.original, args.batch) else 1)


def run_time(args: argparse.Namespace) -> None:
    settings = Settings(
        args.batch,
        args.steps,
        args.warmup,
        args.rounds,
        args.threads,
        args.device,
        args.precision,
        args.compile,
        args.forward,
    )
    recipe = recipe_of(args)
    if args.detectron2:
        model = {"detectron2": str(args.detectron2)}
    else:
        model = {"config": asdict(recipe.config()), "original": args.original and str(args.original)}
    write(args.json, compare(recipe, model, settings))


def run_step(args: argparse.Namespace) -> None:
    import torch

    from step import steps

    settings = Settings(**args.task["settings"])
    torch.set_num_threads(settings.threads)
    print(json.dumps(steps(lambda: model_of(args.task["model"]), args.task["image_size"], settings)))


def model_of(model: dict[str, Any]) -> Any:
    """The model of a task."""
    if "detectron2" in model:
        from detector import build

        return build(Path(model["detectron2"]))
    from model import initialise

    built = builder(model["original"])(Config(**model["config"]))
    initialise(built, seed=0)
    return built


def run_ceilings(args: argparse.Namespace) -> None:
    from ceilings import ceilings

    figures = ceilings(args.device)
    for name, figure in figures.items():
        print(f"{name}: {figure:.1f}")
    write(args.json, figures)


def run_data(args: argparse.Namespace) -> None:
    from data import generate, summary

    build = "cargo build --release -p convmae-registry --example data_path"
    require(args.program, build)
    folder = args.images or TARGET / "peer-images"
    if args.images is None:
        generate(folder, args.count, args.photos)
    theirs = [sys.executable, __file__, "torchvision", str(folder), str(args.seconds)]
    ours = [str(args.program), str(folder), "--seconds", str(args.seconds)]
    rounds = [(run_child(theirs, 1)[0], run_child(ours, 1)[0]) for _ in range(args.rounds)]
    torchvision, convmae = map(list, zip(*rounds, strict=True))
    write(args.json, summary(torchvision, convmae))


def run_torchvision(args: argparse.Namespace) -> None:
    from data import torchvision_rates

    print(json.dumps(torchvision_rates(args.folder, args.seconds)))


def run_regions(args: argparse.Namespace) -> None:
    from regions import compare, generate

    require(args.program, "cargo build --release -p convmae-registry --example regions")
    file = TARGET / "peer-regions/inputs.safetensors"
    generate(file)
    theirs = [sys.executable, __file__, "torchvision-regions", str(file), str(args.repeat)]
    ours = [str(args.program), str(file), "--rounds", str(args.repeat)]
    rounds = [(run_child(theirs, args.threads)[0], run_child(ours, args.threads)[0]) for _ in range(args.rounds)]
    torchvision, convmae = map(list, zip(*rounds, strict=True))
    write(args.json, compare(torchvision, convmae))


def run_torchvision_regions(args: argparse.Namespace) -> None:
    from regions import torchvision

    print(json.dumps(torchvision(args.file, args.repeat)))


def run_coco(args: argparse.Namespace) -> None:
    from coco import TYPES, compare, generate

    require(args.convmae, "cargo build --release")
    annotations, results = args.files or generate(TARGET / "peer-coco", args.images)
    files = ["--results", str(results), "--annotations", str(annotations)]
    report = {}
    for iou_type in args.type or TYPES:
        theirs = [sys.executable, __file__, "pycocotools", str(annotations), str(results), iou_type]
        ours = [str(args.convmae), "--quiet", "eval", *files, "--type", iou_type, "--json"]
        rounds = [(run_child(theirs, 1)[0], timed(ours, args.threads)) for _ in range(args.rounds)]
        pycocotools, convmae = map(list, zip(*rounds, strict=True))
        report[iou_type] = compare(iou_type, pycocotools, convmae)
    write(args.json, report)


def timed(command: list[str], threads: int) -> dict[str, Any]:
    """What a command prints, with the seconds of its process."""
    start = perf_counter()
    answer, _ = run_child(command, threads)
    return answer | {"seconds": perf_counter() - start}


def run_pycocotools(args: argparse.Namespace) -> None:
    from coco import pycocotools

    # It prints what it does.
    with redirect_stdout(sys.stderr):
        report = pycocotools(args.annotations, args.results, args.type)
    print(json.dumps(report))


def packages(args: argparse.Namespace) -> dict[str, str]:
    """What a command needs."""
    if args.command in ("coco", "pycocotools"):
        return environment.COCO
    is_detector = getattr(args, "detectron2", None) or "detectron2" in getattr(args, "task", {}).get("model", {})
    return environment.PACKAGES | (environment.DETECTRON2 if is_detector else {})


def write(file: Path | None, result: dict[str, Any]) -> None:
    if file:
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parsed = arguments()
    environment.enter(parsed.python, parsed.venv, packages(parsed))
    parsed.run(parsed)
