"""PyTorch's measurements for `fat5 bench`: bench_torch.py gemm|attention|train THREADS [SHAPE] prints a JSON line each."""
import json, resource, sys, time
import torch

subject, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)


def fastest(seconds, run):
    """Milliseconds of the fastest of many runs."""
    run()
    best, end, n = float("inf"), time.time() + seconds, 0
    while n < 2 or time.time() < end:
        started = time.perf_counter()
        run()
        best, n = min(best, time.perf_counter() - started), n + 1
    return 1000 * best


def report(case, ms, rate, unit, memory=False):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if memory else 0
    print(json.dumps(dict(case=case, milliseconds=ms, rate=rate, unit=unit, peakMegabytes=peak)), flush=True)


def gemm():
    shapes = {
        "small qkvo": (2048, 512, 512),
        "small up": (2048, 512, 2048),
        "small down": (2048, 2048, 512),
        "base up": (2048, 768, 3072),
        "small head": (456, 512, 32128),
    }
    for name, (n, i, o) in shapes.items():
        x, w, dy = torch.randn(n, i), torch.randn(o, i), torch.randn(n, o)
        products = {
            "forward": lambda: x @ w.T,
            "input gradient": lambda: dy @ w,
            "weight gradient": lambda: dy.T @ x,
        }
        for product, run in products.items():
            ms = fastest(1, run)
            report(f"{name} {n}x{i}x{o} {product}", ms, 2 * n * i * o / ms / 1e6, "GFLOP/s")


def attention():
    for b, h, s, d, causal in [(4, 8, 512, 64, False), (4, 8, 512, 64, True), (1, 8, 2048, 64, False), (8, 8, 256, 32, False)]:
        q, k, v = (torch.randn(b, h, s, d, requires_grad=True) for _ in range(3))
        dy = torch.randn(b, h, s, d)
        table = torch.randn(32, h, requires_grad=True)
        relative = torch.arange(s)[None, :] - torch.arange(s)[:, None]
        buckets = relative.abs().clamp(max=15) + 16 * (relative > 0)
        future = torch.triu(torch.full((s, s), float("-inf")), 1) if causal else None

        def forward():
            bias = table[buckets].permute(2, 0, 1)[None]
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias + future if causal else bias)

        def backward():
            for t in (q, k, v, table):
                t.grad = None
            forward().backward(dy)

        flops = 4 * b * h * s * s * d * (0.5 if causal else 1)
        name = f"B{b} H{h} S{s} D{d}{' causal' if causal else ''}"
        with torch.no_grad():
            ms = fastest(1, forward)
        report(f"{name} forward", ms, flops / ms / 1e6, "GFLOP/s")
        ms = fastest(1, backward)
        report(f"{name} forward and backward", ms, 3.5 * flops / ms / 1e6, "GFLOP/s")


def train():
    from transformers import T5Config, T5ForConditionalGeneration

    gated = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    cases = [
        ("t5-small relu", dict(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, feed_forward_proj="relu", vocab_size=32128), (4, 512, 114)),
        ("t5-v1.1-small", dict(d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6, vocab_size=32128, **gated), (4, 512, 114)),
        ("tiny 256x4", dict(d_model=256, d_kv=32, d_ff=512, num_layers=4, num_heads=8, vocab_size=8192, **gated), (8, 256, 64)),
    ]
    for name, config, (rows, source, target) in cases:
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        config = T5Config(**config, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
        model = T5ForConditionalGeneration(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        ids = torch.randint(3, config.vocab_size - 10, (rows, source))
        labels = torch.randint(3, config.vocab_size - 10, (rows, target))

        def step():
            model(input_ids=ids, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        ms = fastest(8, step)
        report(f"{name} B{rows} in{source} out{target}", ms, rows * (source + target) / ms * 1000, "tokens/s", memory=True)


subjects = dict(gemm=gemm, attention=attention, train=train)
if subject in subjects:
    subjects[subject]()
