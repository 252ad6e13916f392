"""ConvMAE pretraining in PyTorch (Gao et al., NeurIPS 2022), computed densely, as the official code computes it.

Written from the paper and from the names and shapes of the official checkpoint: every convolution of the first two
stages covers the whole image, LayerNorm over channels goes through permutes, the mask multiplies a dense map, and
attention holds its whole matrix. No part is skipped because a patch is hidden: that is what is compared against.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recipe import Config

CONV_EPS = 1e-5  # of LayerNorm in patch embeddings and convolution blocks
TOKEN_EPS = 1e-6  # of LayerNorm everywhere else


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between; 1x1 convolutions when `spatial`."""

    def __init__(self, dim: int, ratio: float, spatial: bool) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Conv2d(dim, hidden, 1) if spatial else nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1) if spatial else nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


def norm_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm over the channels of `[B, C, H, W]`."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """Convolution whose stride is its kernel, LayerNorm, GELU."""

    def __init__(self, channels: int, dim: int, size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, size, stride=size)
        self.norm = nn.LayerNorm(dim, eps=CONV_EPS)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(norm_channels(self.norm, self.proj(x)))


class ConvBlock(nn.Module):
    """Masked depthwise convolution between two 1x1 convolutions, then the MLP (section 3.1 of the paper)."""

    def __init__(self, dim: int, ratio: float, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=CONV_EPS)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.conv2 = nn.Conv2d(dim, dim, 1)
        self.attn = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm2 = nn.LayerNorm(dim, eps=CONV_EPS)
        self.mlp = Mlp(dim, ratio, spatial=True)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """`x` is `[B, C, H, W]`; `visible` is `[B, 1, H, W]`, 1 where a pixel is seen."""
        hidden = self.conv1(norm_channels(self.norm1, x))
        if visible is not None:
            hidden = visible * hidden
        x = x + self.conv2(self.attn(hidden))
        return x + self.mlp(norm_channels(self.norm2, x))


class Attention(nn.Module):
    """Multi-head self-attention that computes its matrix in full."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        weights = ((query @ key.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Transformer block, normalised before each half."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=TOKEN_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=TOKEN_EPS)
        self.mlp = Mlp(dim, ratio, spatial=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def sincos_positions(dim: int, grid: int) -> Tensor:
    """The fixed table `[1, grid * grid, dim]`: sine and cosine of the column, then of the row."""
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.outer(torch.arange(grid, dtype=torch.float64), frequencies)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)
    return torch.cat([columns, rows], dim=1).float().unsqueeze(0)


def gather_tokens(x: Tensor, ids: Tensor) -> Tensor:
    """The tokens `ids` `[B, K]` of `x` `[B, L, C]`."""
    return x.gather(1, ids.unsqueeze(-1).repeat(1, 1, x.shape[-1]))


class Encoder(nn.Module):
    """What pretraining and finetuning share: two convolutional stages and one of tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        dims, ratios, kernel = config.embed_dim, config.mlp_ratio, config.kernel_size
        self.patch_embed1 = PatchEmbed(3, dims[0], config.patch_size[0])
        self.patch_embed2 = PatchEmbed(dims[0], dims[1], config.patch_size[1])
        self.patch_embed3 = PatchEmbed(dims[1], dims[2], config.patch_size[2])
        self.patch_embed4 = nn.Linear(dims[2], dims[2])
        self.pos_embed = nn.Parameter(sincos_positions(dims[2], config.grid), requires_grad=False)
        self.blocks1 = nn.ModuleList(ConvBlock(dims[0], ratios[0], kernel) for _ in range(config.depth[0]))
        self.blocks2 = nn.ModuleList(ConvBlock(dims[1], ratios[1], kernel) for _ in range(config.depth[1]))
        heads = config.num_heads
        self.blocks3 = nn.ModuleList(Block(dims[2], heads, ratios[2]) for _ in range(config.depth[2]))

    def stages(self, images: Tensor, removed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The maps of both convolutional stages and all tokens `[B, L, C]` with their positions."""
        first = self.patch_embed1(images)
        visible = visible_pixels(removed, first)
        for block in self.blocks1:
            first = block(first, visible)
        second = self.patch_embed2(first)
        visible = visible_pixels(removed, second)
        for block in self.blocks2:
            second = block(second, visible)
        tokens = self.patch_embed3(second).flatten(2).permute(0, 2, 1)
        return first, second, self.patch_embed4(tokens) + self.pos_embed


def visible_pixels(removed: Tensor | None, features: Tensor) -> Tensor | None:
    """The mask `[B, L]` (1 is removed) at the size of `features` `[B, C, H, H]`, with 1 where a pixel is seen."""
    if removed is None:
        return None
    grid = math.isqrt(removed.shape[1])
    scale = features.shape[-1] // grid
    cells = (1 - removed).reshape(-1, 1, grid, grid)
    return cells.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)


class Pretraining(Encoder):
    """The masked autoencoder; `forward` gives its loss."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        dims, decoder = config.embed_dim, config.decoder_embed_dim
        per_second = config.patch_size[2]
        per_first = per_second * config.patch_size[1]
        self.stage1_output_decode = nn.Conv2d(dims[0], dims[2], per_first, stride=per_first)
        self.stage2_output_decode = nn.Conv2d(dims[1], dims[2], per_second, stride=per_second)
        self.norm = nn.LayerNorm(dims[2], eps=TOKEN_EPS)
        self.decoder_embed = nn.Linear(dims[2], decoder)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(decoder, config.grid), requires_grad=False)
        heads, ratio = config.decoder_num_heads, config.decoder_mlp_ratio
        self.decoder_blocks = nn.ModuleList(Block(decoder, heads, ratio) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder, eps=TOKEN_EPS)
        self.decoder_pred = nn.Linear(decoder, config.patch**2 * 3)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """The loss on normalised `images` `[B, 3, S, S]`; `noise` `[B, L]` decides which patches are kept."""
        if noise is None:
            noise = torch.rand(images.shape[0], self.config.patches, device=images.device)
        shuffled = noise.argsort(dim=1)
        restore = shuffled.argsort(dim=1)
        kept = shuffled[:, : self.config.kept]
        removed = (restore >= self.config.kept).float()
        prediction = self.decode(self.encode(images, kept, removed), restore)
        return self.loss(images, prediction, removed)

    def encode(self, images: Tensor, kept: Tensor, removed: Tensor) -> Tensor:
        """The latent of the kept patches `[B, K, C]`; outputs of the first stages are added to the last one's."""
        first, second, tokens = self.stages(images, removed)
        first = self.stage1_output_decode(first).flatten(2).permute(0, 2, 1)
        second = self.stage2_output_decode(second).flatten(2).permute(0, 2, 1)
        tokens = gather_tokens(tokens, kept)
        for block in self.blocks3:
            tokens = block(tokens)
        return self.norm(tokens + gather_tokens(first, kept) + gather_tokens(second, kept))

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Predicted pixels of all patches, `[B, L, 768]` where these are of 16 x 16 pixels."""
        latent = self.decoder_embed(latent)
        hidden = self.mask_token.repeat(latent.shape[0], restore.shape[1] - latent.shape[1], 1)
        tokens = gather_tokens(torch.cat([latent, hidden], dim=1), restore) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens))

    def loss(self, images: Tensor, prediction: Tensor, removed: Tensor) -> Tensor:
        """Mean squared error of the removed patches, each normalised on its own where the recipe asks for it."""
        batch, grid, patch = images.shape[0], self.config.grid, self.config.patch
        target = images.reshape(batch, 3, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
        target = target.reshape(batch, grid * grid, patch * patch * 3)
        if self.config.norm_pix_loss:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        error = (prediction - target).square().mean(-1)
        return (error * removed).sum() / removed.sum()


class Classification(Encoder):
    """A classifier on the mean of the tokens; `forward` gives the loss while it trains, logits `[B, K]` otherwise."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.pos_embed.requires_grad_()
        self.fc_norm = nn.LayerNorm(config.embed_dim[2], eps=TOKEN_EPS)
        self.head = nn.Linear(config.embed_dim[2], config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        _, _, tokens = self.stages(images, None)
        for block in self.blocks3:
            tokens = block(tokens)
        logits = self.head(self.fc_norm(tokens.mean(dim=1)))
        if not self.training:
            return logits
        # Soft targets, as Mixup and label smoothing make them.
        targets = torch.full_like(logits, 1 / logits.shape[1])
        return nn.functional.cross_entropy(logits, targets)


def initialise(model: nn.Module, seed: int) -> None:
    """Every parameter drawn at random, none of them zero, so that no gradient is hidden by the initialisation."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        value = torch.randn(parameter.shape, generator=generator)
        if name.endswith("mask_token"):
            value *= 0.02
        elif parameter.ndim > 1:
            value *= parameter[0].numel() ** -0.5
        elif "norm" in name and name.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value *= 0.02
        parameter.data.copy_(value)
