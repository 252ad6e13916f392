"""What our program says about a recipe, and its subcommands as functions. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]

# What the PyTorch model implements, and nothing else.
PRETRAINING = {
    "model.mask.type": "BlockwiseMasker",
    "model.backbone.type": "ConvViT",
    "model.backbone.drop_path": 0,
    "model.backbone.final_norm": True,
    "model.backbone.masked_convolution": True,
    "model.backbone.multi_scale_fusion": True,
    "model.backbone.train_pos_embed": False,
    "model.decoder.type": "MaeDecoder",
    "optimizer.type": "AdamW",
}
CLASSIFICATION = {
    "model.backbone.type": "ConvViT",
    "model.backbone.drop_path": 0,
    "model.backbone.final_norm": False,
    "model.backbone.multi_scale_fusion": False,
    "model.backbone.train_pos_embed": True,
    "model.head.type": "ClassificationHead",
    "model.head.pool": "mean",
    "optimizer.type": "AdamW",
}
SEGMENTATION = {
    "model.backbone.type": "ConvViT",
    "model.backbone.drop_path": 0,
    "model.backbone.final_norm": False,
    "model.backbone.multi_scale_fusion": False,
    "model.backbone.train_pos_embed": True,
    "model.backbone.norm_eps": 1e-5,
    "model.backbone.relative_positions": "bias",
    "model.backbone.init_values": 1,
    "model.backbone.s4": "conv",
    "model.decode.type": "UperHead",
    "model.decode.pool_scales": [1, 2, 3, 6],
    "model.aux.type": "FcnHead",
    "model.aux.from": "backbone.s3",
    "model.aux.num_convs": 1,
    "model.aux.loss_weight": 0.4,
    "optimizer.type": "AdamW",
}


@dataclass(frozen=True)
class Config:
    """The model of a recipe: ConvMAE pretraining, or a classifier or a segmentor on its encoder, which have no decoder and no mask."""

    image_size: int
    patch_size: list[int]
    embed_dim: list[int]
    depth: list[int]
    num_heads: int
    mlp_ratio: list[float]
    kernel_size: int
    decoder_embed_dim: int = 0
    decoder_depth: int = 0
    decoder_num_heads: int = 0
    decoder_mlp_ratio: float = 0
    mask_ratio: float = 0
    norm_pix_loss: bool = False
    num_classes: int = 0
    decode_channels: int = 0
    aux_channels: int = 0
    dropout: float = 0

    @property
    def patch(self) -> int:
        """Pixels along an edge of the patch that is masked or kept, which becomes a token."""
        return prod(self.patch_size)

    @property
    def grid(self) -> int:
        """Patches along an edge of the image."""
        return self.image_size // self.patch

    @property
    def patches(self) -> int:
        return self.grid**2

    @property
    def kept(self) -> int:
        """Visible patches of an image."""
        return int(self.patches * (1 - self.mask_ratio))


@dataclass(frozen=True)
class Recipe:
    """A recipe as our program reads it: with what it extends, its defaults and `--set` values."""

    program: Path
    path: Path
    settings: list[str]

    def arguments(self, subcommand: str) -> list[str]:
        """The command line of a subcommand that takes this recipe."""
        settings = [argument for setting in self.settings for argument in ("--set", setting)]
        return [str(self.program), "--quiet", subcommand, str(self.path), *settings]

    def value(self, key: str) -> Any:
        """The value of a dotted key; the first line that `check --why` prints is `origin: value`."""
        answer = run([*self.arguments("check"), "--why", key])
        return json.loads(answer.splitlines()[0].split(": ", 1)[1])

    def config(self) -> Config:
        """The model; ends the program where PyTorch's side lacks what the recipe asks for."""
        nodes = json.loads(run([*self.arguments("check"), "--json"]))["nodes"]
        types = {node["type"] for node in nodes}
        is_classifier, is_segmentor = "ClassificationHead" in types, "UperHead" in types
        implemented = CLASSIFICATION if is_classifier else SEGMENTATION if is_segmentor else PRETRAINING
        for key, expected in implemented.items():
            if (found := self.value(key)) != expected:
                sys.exit(f"{self.path}: `{key}` is {found!r}; the PyTorch model only has {expected!r}")
        names = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "kernel_size")
        backbone = {key: self.value(f"model.backbone.{key}") for key in names} | {"image_size": self.value("image_size")}
        if is_classifier:
            return Config(**backbone, num_classes=self.value("model.head.num_classes"))
        if is_segmentor:
            return Config(
                **backbone,
                num_classes=self.value("model.decode.num_classes"),
                decode_channels=self.value("model.decode.channels"),
                aux_channels=self.value("model.aux.channels"),
                dropout=self.value("model.decode.dropout"),
            )
        decoder = ("embed_dim", "depth", "num_heads", "mlp_ratio")
        return Config(
            mask_ratio=self.value("model.mask.mask_ratio"),
            norm_pix_loss=self.value("model.decoder.norm_pix_loss"),
            **backbone,
            **{f"decoder_{key}": self.value(f"model.decoder.{key}") for key in decoder},
        )

    def trace(self, weights: Path, inputs: Path, out: Path) -> None:
        """Writes the loss and every gradient for given weights and inputs to `out`."""
        files = ["--weights", str(weights), "--inputs", str(inputs), "--out", str(out)]
        run([*self.arguments("trace"), *files, "--grads"])


def run(command: list[str], threads: int | None = None) -> str:
    """What a command prints; ends the program with the command's own message where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(threads))
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(command)}")
    return done.stdout


def environment(threads: int | None) -> dict[str, str]:
    """This environment, with a number of threads for both OpenMP (PyTorch) and rayon (ours)."""
    if threads is None:
        return dict(os.environ)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return {**os.environ, **{name: str(threads) for name in names}}
