"""How fast PyTorch decodes on this CPU with the decoder's sizes, in bf16.

    pip install torch            # any build; only the CPU is used
    python torch_decode.py [--threads N] [--context 1000] [--steps 16] [--batches 1,4,16]

What examples/decode_bench.rs prints for this project, for comparison in one run of one machine.
The network is written as plainly as PyTorch lets one write a fast one: no gradients, fused
queries, keys and values, PyTorch's own attention, and at each layer only those experts that a row
chose, each once for all its rows. Weights are noise; every tensor has memory of its own, so that
reading them costs what it costs with real ones.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

HIDDEN, LAYERS, HEADS, HEAD = 1280, 12, 10, 128
DENSE, EXPERT, EXPERTS, CHOSEN, SHARED = 6848, 896, 64, 6, 1792
VOCABULARY = 129_280
EPSILON, THETA = 1e-6, 10_000.0


class Noise:
    """Weights copied from one block of noise, which is much faster than drawing each."""

    def __init__(self):
        generator = torch.Generator().manual_seed(7)
        self.block = (torch.randn(1 << 22, generator=generator) * 0.02).to(torch.bfloat16)
        self.start = 0

    def __call__(self, *shape):
        out = torch.empty(shape, dtype=torch.bfloat16)
        flat = out.view(-1)
        for first in range(0, flat.numel(), self.block.numel()):
            part = flat[first : first + self.block.numel()]
            # Another beginning each time, so that experts differ and routers spread.
            self.start = (self.start + 104_729) % self.block.numel()
            part.copy_(self.block.roll(self.start)[: part.numel()])
        return out


class Mlp:
    def __init__(self, noise, middle):
        self.gate = noise(middle, HIDDEN)
        self.up = noise(middle, HIDDEN)
        self.down = noise(HIDDEN, middle)

    def __call__(self, x):
        return F.linear(F.silu(F.linear(x, self.gate)) * F.linear(x, self.up), self.down)

    def bytes(self):
        return 2 * (self.gate.numel() + self.up.numel() + self.down.numel())


class Experts:
    def __init__(self, noise):
        # Routers are small: drawn anew, so that choices spread as those of real ones do.
        self.router = torch.randn(EXPERTS, HIDDEN) * 0.02
        self.routed = [Mlp(noise, EXPERT) for _ in range(EXPERTS)]
        self.shared = Mlp(noise, SHARED)
        self.touched = 0

    def __call__(self, x):
        scores = F.linear(x.float(), self.router).softmax(-1)
        weights, indices = scores.topk(CHOSEN, dim=-1)
        out = torch.zeros_like(x, dtype=torch.float32)
        if x.shape[0] == 1:
            chosen = indices[0].tolist()
            for slot, expert in enumerate(chosen):
                out += self.routed[expert](x) * weights[0, slot]
            self.touched += len(chosen)
        else:
            flat = indices.flatten()
            order = flat.argsort()
            counts = torch.bincount(flat, minlength=EXPERTS).tolist()
            rows = order // CHOSEN
            flat_weights = weights.flatten()[order]
            first = 0
            for expert, count in enumerate(counts):
                if count == 0:
                    continue
                some = rows[first : first + count]
                weight = flat_weights[first : first + count, None]
                out.index_add_(0, some, self.routed[expert](x[some]) * weight)
                first += count
                self.touched += 1
        return out.to(x.dtype) + self.shared(x)


class Layer:
    def __init__(self, noise, index):
        self.norms = [torch.ones(HIDDEN, dtype=torch.bfloat16) for _ in range(2)]
        self.qkv = noise(3 * HIDDEN, HIDDEN)
        self.out = noise(HIDDEN, HIDDEN)
        self.mlp = Mlp(noise, DENSE) if index == 0 else Experts(noise)

    def __call__(self, x, cache, angles, past):
        """x: [batch, n, hidden]; cache: [2, batch, heads, positions, head]."""
        batch, n, _ = x.shape
        h = F.rms_norm(x, (HIDDEN,), self.norms[0], EPSILON)
        q, k, v = F.linear(h, self.qkv).view(batch, n, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
        cache[0, :, :, past : past + n] = turn(k, angles)
        cache[1, :, :, past : past + n] = v
        keys, values = cache[:, :, :, : past + n]
        q = turn(q, angles)
        h = F.scaled_dot_product_attention(q, keys, values, is_causal=n > 1)
        x = x + F.linear(h.transpose(1, 2).reshape(batch, n, HIDDEN), self.out)
        h = F.rms_norm(x, (HIDDEN,), self.norms[1], EPSILON)
        return x + self.mlp(h.view(-1, HIDDEN)).view(batch, n, HIDDEN)


def turn(x, angles):
    cos, sin = angles
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Decoder:
    def __init__(self):
        noise = Noise()
        self.embeddings = noise(VOCABULARY, HIDDEN)
        self.layers = [Layer(noise, index) for index in range(LAYERS)]
        self.norm = torch.ones(HIDDEN, dtype=torch.bfloat16)
        self.head = noise(VOCABULARY, HIDDEN)

    def step(self, tokens, cache, past):
        """tokens: [batch, n] -> [batch]"""
        positions = torch.arange(past, past + tokens.shape[1], dtype=torch.float32)
        steps = 1.0 / THETA ** (torch.arange(0, HEAD, 2, dtype=torch.float32) / HEAD)
        turns = positions[:, None] * steps
        angles = turns.cos().bfloat16(), turns.sin().bfloat16()
        x = self.embeddings[tokens]
        for layer, kept in zip(self.layers, cache):
            x = layer(x, kept, angles, past)
        x = F.rms_norm(x[:, -1], (HIDDEN,), self.norm, EPSILON)
        return F.linear(x, self.head).argmax(-1)

    def touched(self):
        experts = [layer.mlp for layer in self.layers if isinstance(layer.mlp, Experts)]
        count = sum(of.touched for of in experts)
        for of in experts:
            of.touched = 0
        return count


def cache_of(batch, positions):
    shape = (2, batch, HEADS, positions, HEAD)
    return [torch.randn(shape).mul_(0.1).bfloat16() for _ in range(LAYERS)]


def memory_speed():
    """Bytes a second of reading a gigabyte, the best of five."""
    block = torch.ones(1 << 27, dtype=torch.int64)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - start)
    return 8 * block.numel() / best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--context", type=int, default=1000)
    parser.add_argument("--prompt", type=int, default=900)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--batches", default="1,4,16")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(7)
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    memory = memory_speed()
    print(f"memory               {memory / 1e9:6.2f} GB/s")
    start = time.perf_counter()
    decoder = Decoder()
    print(f"made in              {time.perf_counter() - start:6.2f} s")

    if args.prompt:
        cache = cache_of(1, args.prompt)
        tokens = torch.randint(0, VOCABULARY, (1, args.prompt))
        times = []
        for _ in range(2):
            start = time.perf_counter()
            decoder.step(tokens, cache, 0)
            times.append(time.perf_counter() - start)
        print(
            f"prefill of {args.prompt:<9} {min(times):6.2f} s, "
            f"{args.prompt / min(times):.1f} tokens/s"
        )

    for batch in map(int, args.batches.split(",")):
        cache = cache_of(batch, args.context + args.steps + 1)
        tokens = torch.randint(0, VOCABULARY, (batch, 1))
        times = []
        for step in range(args.steps + 1):
            decoder.touched()
            start = time.perf_counter()
            tokens = decoder.step(tokens, cache, args.context + step)[:, None]
            if step:
                times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        touched = decoder.touched() / (LAYERS - 1)
        print(
            f"batch {batch:<3} {batch / seconds:8.2f} tokens/s  "
            f"{touched:5.1f} experts a layer in the last step"
        )


if __name__ == "__main__":
    main()
