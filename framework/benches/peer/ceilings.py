"""What a device can do at most, as PyTorch does it: what steps and kernels are compared with."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

# Side of a product that takes long enough on a card; of 4 the smallest on a processor.
SIDE = 8192
COPIED = 1 << 30  # Bytes.


def ceilings(device: str) -> dict[str, float]:
    """Figures by name: rates in 10^9 bytes or 10^12 operations a second, a launch in microseconds."""
    on_card = device != "cpu"
    side = SIDE if on_card else SIDE // 4

    def seconds(work: Callable[[], Any], repeat: int = 5) -> float:
        def once() -> float:
            start = perf_counter()
            work()
            if on_card:
                torch.cuda.synchronize()
            return perf_counter() - start

        once()
        return min(once() for _ in range(repeat))

    def product(dtype: torch.dtype) -> float:
        a = torch.randn(side, side, device=device).to(dtype)
        return 2 * side**3 / seconds(lambda: a @ a) / 1e12

    values = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(values)
    one = torch.ones(1, device=device)
    figures = {
        "copy, read and written, GB/s": 2 * COPIED / seconds(lambda: target.copy_(values)) / 1e9,
        "product, bf16, TFLOP/s": product(torch.bfloat16),
    }
    torch.backends.cuda.matmul.allow_tf32 = True
    figures[f"product, {'tf32' if on_card else 'f32'}, TFLOP/s"] = product(torch.float32)
    figures["operation of one value, us"] = seconds(lambda: [one.add_(1) for _ in range(1000)]) * 1e3
    if on_card:
        for kind in ("pageable", "pinned"):
            host = torch.ones(COPIED // 16, pin_memory=kind == "pinned")
            figures[f"upload, {kind}, GB/s"] = COPIED / 4 / seconds(lambda: host.to(device, non_blocking=True)) / 1e9
    return figures
