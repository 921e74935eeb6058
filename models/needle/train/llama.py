"""A Llama for training: fp32 weights and residual stream, bf16 products, rows of equal length.

All tokens of a step are one flat [tokens, hidden] matrix, so that only attention knows the rows'
length and the compiler sees two shapes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


NORM_EPSILON = 1e-5
# Of more tokens than these, what the FFN needs for its gradient is computed again, not kept.
MOST_KEPT_TOKENS = 262_144
RECOMPUTED = {"use_reentrant": False, "preserve_rng_state": False}


@dataclass(frozen=True)
class Shape:
    layers: int = 6
    hidden: int = 384
    ffn: int = 1024
    query_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    vocabulary: int = 4096
    rope_base: float = 1e8
    max_positions: int = 1_048_576


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPSILON) * weight).bfloat16()


def rope_tables(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [tokens, 1, head_dim / 2], fp32; angles in fp64 (positions reach 1M)."""
    half = shape.head_dim // 2
    exponents = torch.arange(half, dtype=torch.float64, device=positions.device) / half
    angles = positions.double()[:, None] * shape.rope_base**-exponents
    return angles.cos().float()[:, None], angles.sin().float()[:, None]


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """The half-split rotation of HF Llama. x: [tokens, heads, head_dim]."""
    first, second = x.float().chunk(2, dim=-1)
    rotated = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(rotated, dim=-1).bfloat16()


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        query, kv = shape.query_heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.attention_norm = nn.Parameter(torch.ones(shape.hidden))
        self.ffn_norm = nn.Parameter(torch.ones(shape.hidden))
        self.q = nn.Parameter(torch.empty(query, shape.hidden))
        self.k = nn.Parameter(torch.empty(kv, shape.hidden))
        self.v = nn.Parameter(torch.empty(kv, shape.hidden))
        self.o = nn.Parameter(torch.empty(shape.hidden, query))
        self.gate = nn.Parameter(torch.empty(shape.ffn, shape.hidden))
        self.up = nn.Parameter(torch.empty(shape.ffn, shape.hidden))
        self.down = nn.Parameter(torch.empty(shape.hidden, shape.ffn))
        for matrix in (self.q, self.k, self.v, self.gate, self.up):
            nn.init.normal_(matrix, std=shape.hidden**-0.5)
        for matrix in (self.o, self.down):
            nn.init.normal_(matrix, std=(2 * shape.layers * matrix.shape[1]) ** -0.5)


@torch.compile
def before_attention(
    x: Tensor, norm: Tensor, projections: tuple[Tensor, ...], cosines: Tensor, sines: Tensor
) -> tuple[Tensor, ...]:
    """x: [tokens, hidden] fp32; projections: Q, K, V. Returns bf16 [tokens, heads, head_dim]."""
    normed = rms_norm(x, norm)
    head_dim = 2 * cosines.shape[-1]
    q, k, v = (
        F.linear(normed, w.bfloat16()).view(-1, w.shape[0] // head_dim, head_dim)
        for w in projections
    )
    return rotate(q, cosines, sines), rotate(k, cosines, sines), v


@torch.compile
def after_attention(x: Tensor, attended: Tensor, o: Tensor, ffn: tuple[Tensor, ...]) -> Tensor:
    """attended: [tokens, query_heads * head_dim] bf16; ffn: norm, gate, up, down."""
    norm, gate, up, down = ffn
    x = x + F.linear(attended, o.bfloat16())
    normed = rms_norm(x, norm)
    gated = F.silu(F.linear(normed, gate.bfloat16())) * F.linear(normed, up.bfloat16())
    return x + F.linear(gated, down.bfloat16())


def causal_attention(q: Tensor, k: Tensor, v: Tensor, rows: int) -> Tensor:
    """Each of `rows` rows of equal length attends to itself."""
    tokens, query_heads, head_dim = q.shape
    k, v = (t.repeat_interleave(query_heads // t.shape[1], dim=1) for t in (k, v))
    q, k, v = (t.view(rows, tokens // rows, query_heads, head_dim).transpose(1, 2) for t in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).reshape(tokens, query_heads * head_dim)


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.final_norm = nn.Parameter(torch.ones(shape.hidden))

    def hidden_states(self, ids: Tensor, positions: Tensor, rows: int) -> Tensor:
        """ids, positions: [tokens]. The last residual stream, [tokens, hidden] fp32."""
        cosines, sines = rope_tables(positions, self.shape)
        x = self.embedding[ids]
        for layer in self.layers:
            projections = (layer.q, layer.k, layer.v)
            q, k, v = before_attention(x, layer.attention_norm, projections, cosines, sines)
            ffn = (layer.ffn_norm, layer.gate, layer.up, layer.down)
            attended = causal_attention(q, k, v, rows)
            if len(x) > MOST_KEPT_TOKENS:
                x = checkpoint(after_attention, x, attended, layer.o, ffn, **RECOMPUTED)
            else:
                x = after_attention(x, attended, layer.o, ffn)
        return x


@torch.compile
def token_losses(x: Tensor, norm: Tensor, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy, natural log, and whether the target is the likeliest; both [tokens].

    output: [vocabulary, hidden], which is also the embedding.
    """
    logits = F.linear(rms_norm(x, norm), output.bfloat16()).float()
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets
