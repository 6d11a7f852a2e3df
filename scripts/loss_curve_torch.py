"""PyTorch's side of scripts/loss_curve.mjs: loss_curve_torch.py SHAPE FOLDER DEVICE [NOISE].

Hugging Face's T5 from FOLDER/SHAPE on FOLDER/batches.u16: autocast to bfloat16 on a GPU, weights and AdamWScale in float32, the step
as one CUDA graph. With NOISE every initial weight is multiplied by 1 + NOISE times a normal number.
"""
import json, math, sys, time
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import T5Config, T5ForConditionalGeneration

name, folder, device = sys.argv[1:4]
noise = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
PEAK = {"base": 1e-2, "fat5-small": 5e-3, "tiny": 1e-2}[name]
WARM_UP, START, LAST_RATE = 100, 0.5, 1e-5
BETAS, EPS, LEAST_SCALE, MOST_NORM = (0.9, 0.999), 1e-6, 1e-3, 1.0
EAGER_STEPS = 4

shape = json.load(open(f"{folder}/batches.json"))
rows, source, target, steps = (shape[key] for key in ("rows", "sourceLength", "targetLength", "steps"))
stored = json.load(open(f"{folder}/{name}/config.json"))
keys = "d_model d_kv d_ff num_layers num_heads vocab_size feed_forward_proj pad_token_id eos_token_id decoder_start_token_id"
config = T5Config(
    **{key: stored[key] for key in keys.split()},
    num_decoder_layers=stored["num_layers"],
    dropout_rate=0.0,
    tie_word_embeddings=False,
)
config.tie_word_embeddings = False  # transformers 5 sets it in the constructor
model = T5ForConditionalGeneration(config)
model.encoder.embed_tokens = model.decoder.embed_tokens = model.shared
weights = load_file(f"{folder}/{name}/model.safetensors")
weights["encoder.embed_tokens.weight"] = weights["decoder.embed_tokens.weight"] = weights["shared.weight"]
model.load_state_dict(weights)
model.to(device).train()
model.config.use_cache = False
parameters = list(model.parameters())
if noise:
    random = torch.Generator(device=device).manual_seed(1)
    with torch.no_grad():
        for p in parameters:
            p.mul_(1 + noise * torch.randn(p.shape, generator=random, device=device))

first, second = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
roots = torch.tensor([math.sqrt(p.numel()) for p in parameters], device=device)
ids = torch.zeros(rows, source, dtype=torch.long, device=device)
labels = torch.zeros(rows, target, dtype=torch.long, device=device)
rate = torch.zeros((), device=device)


def step():
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda", cache_enabled=False):
        loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    with torch.no_grad():
        grads = [p.grad for p in parameters]
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        torch._foreach_mul_(grads, (MOST_NORM / (norm + 1e-6)).clamp(max=1.0))
        torch._foreach_lerp_(first, grads, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, grads, grads, 1 - BETAS[1])
        spread = torch._foreach_sqrt(second)
        torch._foreach_add_(spread, EPS)
        scales = (torch.stack(torch._foreach_norm(parameters)) / roots).clamp(min=LEAST_SCALE) * -rate
        update = torch._foreach_div(first, spread)
        torch._foreach_mul_(update, list(scales.unbind()))
        torch._foreach_add_(parameters, update)
    return loss.detach()


def scheduled(i):
    if i < WARM_UP:
        return PEAK * (START + (1 - START) * i / WARM_UP)
    return LAST_RATE + (PEAK - LAST_RATE) * (1 + math.cos(math.pi * (i - WARM_UP) / (steps - WARM_UP))) / 2


data = torch.from_numpy(np.fromfile(f"{folder}/batches.u16", dtype=np.uint16).astype(np.int64)).view(steps, -1)
losses = torch.zeros(steps, device=device)


def save(count):
    with open(f"{folder}/curve_{name}_PyTorch{' again' if noise else ''}.json", "w") as file:
        json.dump(losses[:count].tolist(), file)


graph = None
began = time.time()
for i in range(steps):
    ids.copy_(data[i, : rows * source].view(rows, source))
    labels.copy_(data[i, rows * source :].view(rows, target))
    rate.fill_(scheduled(i) * math.sqrt(1 - BETAS[1] ** (i + 1)) / (1 - BETAS[0] ** (i + 1)))
    if i == EAGER_STEPS and device == "cuda":
        model.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
    if graph:
        graph.replay()
    else:
        side = torch.cuda.Stream() if device == "cuda" else None
        with torch.cuda.stream(side):
            loss = step()
        if side:
            torch.cuda.synchronize()
        model.zero_grad(set_to_none=True)
    losses[i] = loss
    if (i + 1) % 100 == 0:
        print(f"{name} PyTorch, step {i + 1}: {losses[i].item():.4f}, {time.time() - began:.0f} s", flush=True)
        save(i + 1)
save(steps)
