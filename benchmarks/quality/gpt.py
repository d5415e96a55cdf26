"""A small GPT with nanoGPT's recipe for a processor, in code of our own: what a transformer reaches here.

Run it: python benchmarks/quality/gpt.py --config RUN/config.toml --text FILE --score FILE [--minutes M | --steps 2000]
The settings are those of nanoGPT (https://github.com/karpathy/nanoGPT): its README's command for a computer without a
GPU, config/train_shakespeare_char.py and the defaults of train.py. 4 layers, 4 heads, width 128, blocks of 64, batches
of 12, 2,000 iterations, no dropout; AdamW 1e-3 with betas 0.9 and 0.99, weight decay 0.1 on matrices, warm-up over 100
iterations, then half a cosine down to 1e-4, clip 1. With --minutes the cosine follows the time instead. Of elman's run
only the text's split and tokenizer are read. Prints a line of JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from peer import WINDOW, Budget, parser, read_data, read_recipe, report, train
from torch import nn
from torch.nn import functional

from elman.config import TrainConfig

LAYERS, HEADS, WIDTH, BLOCK, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, HIGHEST, LOWEST = 2000, 100, 1e-3, 1e-4
BETAS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.99), 0.1, 1.0
STRIDE = 8  # by which a scored window slides: each token has BLOCK - STRIDE before it at least
AT_ONCE = 1 << 21  # logits


class Attention(nn.Module):
    """Causal self-attention (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, width) -> the same shape."""
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.inputs(x).chunk(3, 2))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a two-layer network, each on what layer normalisation gives, added to what came in."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width, bias=False), Attention(width, heads))
        self.think = nn.Sequential(
            nn.LayerNorm(width, bias=False),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, width) -> the same shape."""
        x = x + self.attend(x)
        return x + self.think(x)


class GPT(nn.Module):
    """GPT-2's decoder (Radford et al. 2019) without biases, its output tied to the embedding."""

    def __init__(
        self, vocab_size: int, layers: int = LAYERS, heads: int = HEADS, width: int = WIDTH, block: int = BLOCK
    ):
        super().__init__()
        self.block = block
        self.tokens, self.places = nn.Embedding(vocab_size, width), nn.Embedding(block, width)
        self.layers = nn.Sequential(*(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width, bias=False))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                residual = name.endswith(("attend.1.output.weight", "think.3.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Ids (B, T), T at most the block -> logits (B, T, V)."""
        x = self.tokens(inputs) + self.places.weight[: inputs.shape[1]]
        return functional.linear(self.layers(x), self.tokens.weight)

    def losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Nats of each target, (B, T)."""
        return functional.cross_entropy(self(inputs).transpose(1, 2), targets, reduction="none")


def open_optimizer(model: GPT) -> torch.optim.Optimizer:
    """AdamW; matrices and embeddings decay, the gains of normalisation do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=HIGHEST, betas=BETAS, fused=True)


def learning_rate(step: int, progress: float, begins: float) -> float:
    """Of a step, 0 the first; ``begins``: the progress at which the warm-up ended."""
    if step < WARMUP:
        return HIGHEST * (step + 1) / (WARMUP + 1)
    share = min(1.0, (progress - begins) / (1 - begins))
    return LOWEST + 0.5 * (1 + math.cos(math.pi * share)) * (HIGHEST - LOWEST)


class Trainer:
    """Training steps on blocks from anywhere in the ids (N,)."""

    def __init__(self, model: GPT, ids: np.ndarray, seed: int, batch: int = BATCH):
        self.model, self.ids, self.rng, self.batch = model, ids, np.random.default_rng(seed), batch
        self.optimizer = open_optimizer(model)
        self._warm = 0.0

    def step(self, step: int, progress: float) -> tuple[float, int]:
        """One step -> mean loss, tokens."""
        if step <= WARMUP:
            self._warm = progress
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, progress, self._warm)
        length = min(self.model.block, len(self.ids) - 1)
        starts = self.rng.integers(0, len(self.ids) - length, self.batch)
        blocks = torch.from_numpy(self.ids[starts[:, None] + np.arange(length + 1)])
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.losses(blocks[:, :-1], blocks[:, 1:]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss.item(), self.batch * length


def places(count: int, window: int, block: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """How ``count`` targets are scored: (start, stop, first) of each pass, which scores [first, stop) and reads all.

    Every ``window`` targets nothing before them is known any more; within, passes of ``block`` slide by ``stride``.
    """
    for begin in range(0, count, window):
        end = min(begin + window, count)
        stop = first = begin
        while stop < end:
            stop = min(begin + block, end) if stop == begin else min(stop + stride, end)
            yield max(begin, stop - block), stop, first
            first = stop


@torch.inference_mode()
def mean_nats(model: GPT, ids: np.ndarray, window: int | None = None, stride: int = STRIDE) -> float:
    """Nats a token of ids (N,), in sliding passes; see :func:`places`."""
    model.eval()
    passes = np.array(list(places(len(ids) - 1, window or len(ids) - 1, model.block, stride)))
    at_once = max(1, AT_ONCE // (model.block * model.tokens.num_embeddings))
    nats = 0.0
    for length in np.unique(passes[:, 1] - passes[:, 0]):
        alike = passes[passes[:, 1] - passes[:, 0] == length]
        for some in np.array_split(alike, -(-len(alike) // at_once)):
            at = some[:, :1] + np.arange(length)
            losses = model.losses(torch.from_numpy(ids[at]), torch.from_numpy(ids[at + 1]))
            nats += losses[torch.from_numpy(at >= some[:, 2:])].double().sum().item()
    return nats / (len(ids) - 1)


def main() -> None:
    made = parser(__doc__.split("\n")[0])
    made.add_argument("--steps", type=int, default=STEPS, metavar="N")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    recipe = TrainConfig(**read_recipe(options.config)["train"])
    data = read_data(recipe, options.text, options.valid, options.score)
    model = GPT(data.vocab_size)
    trainer = Trainer(model, data.train, options.seed)
    budget = Budget(options.minutes and options.minutes * 60, options.steps)
    figures = train(model, trainer.step, lambda: mean_nats(model, data.valid, BLOCK, BLOCK), budget)
    figures["nats"] = mean_nats(model, data.score)
    figures["cold"] = mean_nats(model, data.score, WINDOW) if data.mark is None else None
    figures["blocks"] = mean_nats(model, data.score, BLOCK, BLOCK)
    report(f"GPT {LAYERS} × {WIDTH}", data, figures)


if __name__ == "__main__":
    main()
