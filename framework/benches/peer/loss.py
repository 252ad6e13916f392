"""The same loss and the same gradients from PyTorch and from our program, on the same weights, images and noise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model import initialise
from recipe import REPOSITORY, Config, Recipe

GOLDENS = REPOSITORY / "tests/data/pretrain"
SEGMENTATION_GOLDENS = REPOSITORY / "tests/data/segmentation"

Build = Callable[[Config], nn.Module]

# Largest differences: of the loss, relative; of a gradient, as a part of its tensor's largest value. Both sides
# compute in float32, in other orders.
LOSS_TOLERANCE = 2e-6
GRADIENT_TOLERANCE = 2e-5


def check_goldens(recipe: Recipe, build: Build) -> bool:
    """Whether the PyTorch model gives what the official one gave for the narrow model of the goldens."""
    model = build(Recipe(recipe.program, GOLDENS / "narrow.yaml", []).config())
    model.load_state_dict(load_file(GOLDENS / "state_dict.safetensors"))
    io = load_file(GOLDENS / "io.safetensors")
    loss = model(io["images"], io["noise"])
    loss.backward()
    gradients = load_file(GOLDENS / "grads_norm_pix_true.safetensors")
    return report("goldens", io["loss_norm_pix_true"], gradients, loss, model)


def check_segmentor(recipe: Recipe, build: Build) -> bool:
    """The same for the narrow segmentor."""
    goldens = SEGMENTATION_GOLDENS
    model = build(Recipe(recipe.program, goldens / "narrow.yaml", []).config())
    model.load_state_dict(load_file(goldens / "narrow_weights.safetensors"))
    io = load_file(goldens / "narrow_io.safetensors")
    loss = model(io["input"], io["label"].long())
    loss.backward()
    gradients = {
        name.removeprefix("train.grad."): value
        for name, value in load_file(goldens / "narrow_grads.safetensors").items()
        if name.startswith("train.grad.") and name != "train.grad.input"
    }
    # Zero but for rounding, before BatchNorm; and a BatchNorm over two values.
    for name in ("backbone.fpn.0.bias", "decode_head.psp_modules.0.1.conv.weight"):
        model.get_parameter(name).grad = None
        del gradients[name]
    return report("goldens", io["train.loss_total"], gradients, loss, model)


def check_ours(recipe: Recipe, build: Build, config: Config, batch: int, seed: int) -> bool:
    """Whether our program gives PyTorch's loss and gradients for the model of the recipe with random weights."""
    model = build(config)
    initialise(model, seed)
    generator = torch.Generator().manual_seed(seed)
    size = config.image_size
    inputs = {
        "images": torch.randn(batch, 3, size, size, generator=generator),
        "noise": torch.rand(batch, config.patches, generator=generator),
    }
    with TemporaryDirectory() as folder:
        weights, given, out = (Path(folder) / f"{name}.safetensors" for name in ("weights", "inputs", "out"))
        save_file(model.state_dict(), weights)
        save_file(inputs, given)
        recipe.trace(weights, given, out)
        ours = load_file(out)
    loss = model(**inputs)
    loss.backward()
    gradients = {name.removeprefix("grad."): value for name, value in ours.items() if name.startswith("grad.")}
    return report("convmae", ours["loss"], gradients, loss, model)


def report(name: str, loss: Tensor, gradients: dict[str, Tensor], peer: Tensor, model: nn.Module) -> bool:
    """Prints how a loss and its gradients differ from PyTorch's; whether that is within the tolerances."""
    trained = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    if trained.keys() != gradients.keys():
        sys.exit(f"{name}: other gradients than PyTorch's: {sorted(trained.keys() ^ gradients.keys())}")
    error = abs(loss.item() / peer.item() - 1)
    differences = {key: difference(key, gradients[key], value) for key, value in trained.items()}
    worst = max(differences, key=differences.__getitem__)
    within = error <= LOSS_TOLERANCE and differences[worst] <= GRADIENT_TOLERANCE
    print(f"{name}: loss {loss.item():.7f}, PyTorch {peer.item():.7f}, relative difference {error:.1e}")
    print(f"  {len(trained)} gradients, the worst by {differences[worst]:.1e} of its maximum: {worst}")
    print(f"  {'agrees' if within else 'DIFFERS'} (allowed: {LOSS_TOLERANCE:.0e} and {GRADIENT_TOLERANCE:.0e})")
    return within


def difference(name: str, ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a part of the largest value of the tensor.

    The bias of the keys is left out: the softmax ignores it, so its gradient is zero but for rounding.
    """
    if name.endswith("attn.qkv.bias"):
        third = theirs.numel() // 3
        ours, theirs = (torch.cat([value[:third], value[2 * third :]]) for value in (ours, theirs))
    return ((ours.reshape(theirs.shape) - theirs).abs().max() / theirs.abs().max()).item()
