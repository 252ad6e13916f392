"""The original repository's model in place of ours: github.com/Alpha-VL/ConvMAE, checked out somewhere.

It was written for timm 0.3.2 and an older NumPy. Of timm the pretraining model only needs the helpers below, so a
stand-in spares installing a version that no longer runs on today's PyTorch.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy
import torch
from torch import Tensor, nn

from recipe import Config

# Every name that the repository's `vision_transformer.py` imports.
TIMM: dict[str, dict[str, object]] = {
    "timm": {},
    "timm.data": {
        "IMAGENET_DEFAULT_MEAN": (0.485, 0.456, 0.406),
        "IMAGENET_DEFAULT_STD": (0.229, 0.224, 0.225),
    },
    "timm.models": {},
    "timm.models.helpers": {"load_pretrained": None},
    "timm.models.layers": {
        "DropPath": nn.Identity,  # only built for a rate above zero, which pretraining has not
        "to_2tuple": lambda size: (size, size),
        "trunc_normal_": nn.init.trunc_normal_,
    },
    "timm.models.registry": {"register_model": lambda model: model},
    "timm.models.resnet": {"resnet26d": None, "resnet50d": None},
}


def module(repository: Path, name: str) -> ModuleType:
    """A module of the repository, on stand-ins for what it needs of timm."""
    if not (repository / f"{name}.py").is_file():
        sys.exit(f"{repository}: no {name}.py here; --original is a checkout of Alpha-VL/ConvMAE")
    for needed, members in TIMM.items():
        stand_in = ModuleType(needed)
        stand_in.__dict__.update(members)
        sys.modules[needed] = stand_in
    vars(numpy)["float"] = float  # the alias that NumPy 1.24 removed
    sys.path.insert(0, str(repository))
    return import_module(name)


def build(repository: Path, config: Config) -> nn.Module:
    """The original model, called as ours is: images and noise in, loss out."""
    if (config.grid, config.kernel_size, config.decoder_mlp_ratio) != (14, 5, config.mlp_ratio[0]):
        sys.exit(
            "the original only has 14x14 patches, 5x5 kernels and the first stage's MLP ratio in the decoder"
        )

    class Original(module(repository, "models_convmae").MaskedAutoencoderConvViT):
        def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
            # It draws its noise itself, by `torch.rand`.
            drawn = nullcontext() if noise is None else patch.object(torch, "rand", lambda *_, **__: noise)
            with drawn:
                return super().forward(images, config.mask_ratio)[0]

    first, second, _ = config.patch_size
    return Original(
        img_size=[config.image_size, config.image_size // first, config.image_size // first // second],
        patch_size=config.patch_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        decoder_embed_dim=config.decoder_embed_dim,
        decoder_depth=config.decoder_depth,
        decoder_num_heads=config.decoder_num_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        norm_pix_loss=config.norm_pix_loss,
    )
