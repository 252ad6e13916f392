"""The accuracy of a finished run of ours in the original repository's code: our weights, its model, the same images."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from original import module
from recipe import Recipe, run

# Of the loss, relative: float32 in another order.
TOLERANCE = 2e-6
# The default of `Normalize`.
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def check(recipe: Recipe, root: Path, repository: Path, batch: int) -> bool:
    """Whether the original code makes of a run's weights what `convmae eval` makes of them; prints both."""
    ours = json.loads(run([str(recipe.program), "--quiet", "eval", str(root), "--json"]))["metrics"]
    model = classifier(recipe, repository)
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "model.pth"
        run([str(recipe.program), "--quiet", "convert", str(root / "model.safetensors"), str(weights)])
        model.load_state_dict(torch.load(weights, map_location="cpu")["model"], strict=True)
    dataset = recipe.value("data.val.dataset")
    theirs = evaluate(model.eval(), Path(dataset["root"]) / (dataset.get("split") or ""), batch)
    for name in ("top1", "loss"):
        print(f"{name}: convmae {ours[name]:.7f}, the original code {theirs[name]:.7f}")
    return ours["top1"] == theirs["top1"] and abs(ours["loss"] / theirs["loss"] - 1) <= TOLERANCE


def classifier(recipe: Recipe, repository: Path) -> nn.Module:
    """The original's `ConvViT` with global pooling, as large as the recipe says."""
    size = recipe.value("image_size")
    first, second, third = recipe.value("model.backbone.patch_size")
    names = ("embed_dim", "depth", "num_heads", "mlp_ratio")
    return module(repository, "models_convvit").ConvViT(
        global_pool=True,
        img_size=[size, size // first, size // first // second],
        patch_size=[first, second, third],
        num_classes=recipe.value("model.head.num_classes"),
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        qkv_bias=True,
        **{name: recipe.value(f"model.backbone.{name}") for name in names},
    )


@torch.no_grad()
def evaluate(model: nn.Module, root: Path, batch: int) -> dict[str, float]:
    """Top-1 in percent and the mean cross entropy over a folder of classes, whose images are used as they are."""
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir())
    files = [(file, label) for label, folder in enumerate(classes) for file in sorted(folder.iterdir())]
    right, loss = 0, 0.0
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        logits = model(torch.stack([image(file) for file, _ in part]))
        labels = torch.tensor([label for _, label in part])
        right += int((logits.argmax(1) == labels).sum())
        loss += nn.functional.cross_entropy(logits.double(), labels, reduction="sum").item()
    return {"top1": 100 * right / len(files), "loss": loss / len(files)}


def image(file: Path) -> Tensor:
    pixels = torch.from_numpy(numpy.array(Image.open(file).convert("RGB")))
    return (pixels.permute(2, 0, 1).float() / 255 - MEAN) / STD
