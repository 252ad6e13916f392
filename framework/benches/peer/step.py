"""Steps of the PyTorch model on random images, timed: forward, backward and AdamW, or the forward of an evaluation alone."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from measure import Settings


def steps(build: Callable[[], nn.Module], image_size: int, settings: Settings) -> dict[str, Any]:
    """Seconds of each step that counts, and the memory of the device (on CUDA).

    `amp` is what the official code trains with on CUDA: float16 where PyTorch holds it for safe, with loss scaling; `bf16` is
    bfloat16 there, without.
    """
    device, amp = settings.device, settings.precision == "amp"
    halves = {"amp": torch.float16, "bf16": torch.bfloat16}.get(settings.precision)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.precision != "f32"
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = build().train(not settings.forward).to(device)
    groups = parameter_groups(model, weight_decay=0.05)
    optimizer = torch.optim.AdamW(groups, lr=1.5e-4, betas=(0.9, 0.95))
    step_model = torch.compile(model) if settings.compile else model
    scaler = torch.amp.GradScaler(device, enabled=amp)
    images = torch.randn(settings.batch, 3, image_size, image_size, device=device)
    seconds = []
    for _ in range(settings.warmup + settings.steps):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.inference_mode(settings.forward), torch.autocast(device, halves) if halves else nullcontext():
            loss = step_model(images)
        if not settings.forward:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        loss.sum().item()  # waits for the device
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds[settings.warmup :],
        "loss": None if settings.forward else loss.item(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "memory_after_import_bytes": imported,
        "device_memory_bytes": 0 if device == "cpu" else torch.cuda.max_memory_reserved(),
    }


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The official split: what has one axis or is a bias is not decayed."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    spared = [value for name, value in trained if value.ndim == 1 or name.endswith(".bias")]
    decayed = [value for name, value in trained if value.ndim > 1 and not name.endswith(".bias")]
    return [{"params": spared, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]
