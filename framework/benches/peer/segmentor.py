"""Semantic segmentation in PyTorch: ConvMAE under UPerNet with an auxiliary head, as the official code trains it on mmsegmentation 0.11.

Written from the paper, from what `tests/data/README.md` tells of the official code, and from the names and shapes of its state dict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import Attention, Block, Encoder
from recipe import Config

IGNORED = 255
AUXILIARY_WEIGHT = 0.4


class Attention2d(Attention):
    """Attention over a grid, with a bias that is learnt for each distance of two tokens."""

    def __init__(self, dim: int, heads: int, grid: int) -> None:
        super().__init__(dim, heads)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * grid - 1) ** 2, heads))
        rows, columns = (axis.flatten() for axis in torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij"))
        distance = [axis[:, None] - axis[None, :] + grid - 1 for axis in (rows, columns)]
        self.register_buffer("relative_position_index", distance[0] * (2 * grid - 1) + distance[1])

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        weights = ((query * self.scale) @ key.transpose(-2, -1) + bias).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, dim))


class ScaledBlock(Block):
    """Transformer block whose halves have a scale for each channel."""

    def __init__(self, dim: int, heads: int, ratio: float, grid: int) -> None:
        super().__init__(dim, heads, ratio)
        self.attn = Attention2d(dim, heads, grid)
        self.gamma_1 = nn.Parameter(torch.ones(dim))
        self.gamma_2 = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Backbone(Encoder):
    """The encoder of four levels: both convolutional stages, the tokens, and these at half their resolution."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        dim = config.embed_dim[2]
        self.pos_embed.requires_grad_()
        self.blocks3 = nn.ModuleList(
            ScaledBlock(dim, config.num_heads, config.mlp_ratio[2], config.grid) for _ in range(config.depth[2])
        )
        self.fpn = nn.Sequential(nn.Conv2d(dim, dim, 3, stride=2), nn.BatchNorm2d(dim), nn.GELU())
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-5

    def forward(self, images: Tensor) -> list[Tensor]:
        first, second, tokens = self.stages(images, None)
        for block in self.blocks3:
            tokens = block(tokens)
        third = tokens.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        return [first, second, third, self.fpn(third)]


class ConvModule(nn.Module):
    """Convolution, BatchNorm, ReLU (`ConvModule` of mmcv)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class UperHead(nn.Module):
    """Pyramid pooling of the last level, a feature pyramid from there to the first, and their fusion (`UPerHead`)."""

    def __init__(self, levels: list[int], channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        sides = (1, 2, 3, 6)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), ConvModule(levels[-1], channels, 1)) for side in sides
        )
        self.bottleneck = ConvModule(levels[-1] + len(sides) * channels, channels, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(level, channels, 1) for level in levels[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(channels, channels, 3) for _ in levels[:-1])
        self.fpn_bottleneck = ConvModule(len(levels) * channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        last = levels[-1]
        pooled = [resize(module(last), last) for module in self.psp_modules]
        maps = [conv(level) for conv, level in zip(self.lateral_convs, levels)]
        maps.append(self.bottleneck(torch.cat([last, *pooled], dim=1)))
        for at in range(len(maps) - 1, 0, -1):
            maps[at - 1] = maps[at - 1] + resize(maps[at], maps[at - 1])
        maps[:-1] = [conv(level) for conv, level in zip(self.fpn_convs, maps)]
        fused = torch.cat([resize(level, maps[0]) for level in maps], dim=1)
        return self.conv_seg(self.dropout(self.fpn_bottleneck(fused)))


class FcnHead(nn.Module):
    """A convolution and a classifier on one level (`FCNHead`)."""

    def __init__(self, inputs: int, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(inputs, channels, 3))
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, level: Tensor) -> Tensor:
        return self.conv_seg(self.dropout(self.convs(level)))


class Segmentation(nn.Module):
    """The segmentor; `forward` gives its loss while it trains, logits `[B, K, H, W]` of the main head otherwise."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dims, classes = config.embed_dim, config.num_classes
        self.classes = classes
        self.backbone = Backbone(config)
        self.decode_head = UperHead([*dims, dims[2]], config.decode_channels, classes, config.dropout)
        self.auxiliary_head = FcnHead(dims[2], config.aux_channels, classes, config.dropout)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss on normalised `images` `[B, 3, S, S]`; random `labels` `[B, S, S]` if left out."""
        levels = self.backbone(images)
        logits = resize(self.decode_head(levels), images)
        if not self.training:
            return logits
        if labels is None:
            labels = torch.randint(self.classes, (images.shape[0], *images.shape[2:]), device=images.device)
        auxiliary = resize(self.auxiliary_head(levels[2]), images)
        return pixel_loss(logits, labels) + AUXILIARY_WEIGHT * pixel_loss(auxiliary, labels)


def resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over all pixels, of which ignored ones count as 0."""
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").mean()
