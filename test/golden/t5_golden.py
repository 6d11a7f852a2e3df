"""T5 written independently in PyTorch, float64, from the papers: expected values for test/model_golden.test.ts.

python3 test/golden/t5_golden.py FOLDER... > test/golden/t5.json
FOLDERs are saved models (config.json, model.safetensors), made by `node dist/test/golden/save_models.js`.
"""
import json, math, os, sys
import torch
from safetensors.torch import load_file

IDS = [[5, 9, 13, 2, 37, 8, 1], [7, 3, 22, 1, 0, 0, 0]]
MASK = [[1] * 7, [1] * 4 + [0] * 3]
LABELS = [[11, 4, 30, 1], [6, 1, -100, -100]]


def rms(x, w, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * w


def bucket(rel, both, count, far):
    base = 0
    if both:
        count //= 2
        base = count if rel > 0 else 0
        rel = abs(rel)
    else:
        rel = max(0, -rel)
    exact = count // 2
    if rel < exact:
        return base + rel
    return base + min(count - 1, exact + int(math.log(rel / exact) / math.log(far / exact) * (count - exact)))


def table_bias(c, table, n, both):
    index = [[bucket(k - q, both, c["relative_attention_num_buckets"], c["relative_attention_max_distance"])
              for k in range(n)] for q in range(n)]
    return table[torch.tensor(index)].permute(2, 0, 1)[None]


def attend(c, p, at, x, y, bias, mask):
    def heads(t, name):
        return (t @ p[f"{at}.{name}.weight"].T).unflatten(-1, (c["num_heads"], c["d_kv"])).transpose(1, 2)
    scores = heads(x, "q") @ heads(y, "k").transpose(-1, -2)
    scores = (scores + bias if bias is not None else scores).masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ heads(y, "v")).transpose(1, 2).flatten(2) @ p[f"{at}.o.weight"].T


def feed_forward(c, p, at, x):
    if c["feed_forward_proj"] == "relu":
        h = (x @ p[f"{at}.wi.weight"].T).relu()
    else:
        h = torch.nn.functional.gelu(x @ p[f"{at}.wi_0.weight"].T, approximate="tanh") * (x @ p[f"{at}.wi_1.weight"].T)
    return h @ p[f"{at}.wo.weight"].T


def stack(c, p, name, ids, mask, memory=None, memory_mask=None):
    eps, x, bias = c["layer_norm_epsilon"], p["shared.weight"][ids], None
    for i in range(c["num_layers"] if name == "encoder" else c["num_decoder_layers"]):
        at = f"{name}.block.{i}.layer"
        table = p.get(f"{at}.0.SelfAttention.relative_attention_bias.weight")
        if table is not None:
            bias = table_bias(c, table, ids.shape[1], name == "encoder")
        h = rms(x, p[f"{at}.0.layer_norm.weight"], eps)
        x = x + attend(c, p, f"{at}.0.SelfAttention", h, h, bias, mask)
        last = 1
        if memory is not None:
            h = rms(x, p[f"{at}.1.layer_norm.weight"], eps)
            x, last = x + attend(c, p, f"{at}.1.EncDecAttention", h, memory, None, memory_mask), 2
        h = rms(x, p[f"{at}.{last}.layer_norm.weight"], eps)
        x = x + feed_forward(c, p, f"{at}.{last}.DenseReluDense", h)
    return rms(x, p[f"{name}.final_layer_norm.weight"], eps)


def golden(folder):
    c = json.load(open(f"{folder}/config.json"))
    p = {k: v.double().requires_grad_() for k, v in load_file(f"{folder}/model.safetensors").items()}
    ids, labels = torch.tensor(IDS), torch.tensor(LABELS)
    keys = torch.tensor(MASK).bool()[:, None, None]
    states = stack(c, p, "encoder", ids, keys)
    start = torch.full((2, 1), c["decoder_start_token_id"])
    shifted = torch.cat([start, labels[:, :-1]], 1).masked_fill_(torch.cat([start, labels[:, :-1]], 1) == -100, c["pad_token_id"])
    causal = torch.ones(labels.shape[1], labels.shape[1]).tril().bool()[None, None]
    out = stack(c, p, "decoder", shifted, causal, states, keys)
    out = out * c["d_model"] ** -0.5 if c["scale_decoder_outputs"] else out
    logits = out @ p.get("lm_head.weight", p["shared.weight"]).T
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    short = lambda t: [float(f"{v:.7g}") for v in t.detach().flatten().tolist()]
    return {"loss": loss.item(), "logits": short(logits), "encoder": short(states)[:64],
            "gradient_norms": {k: float(f"{v.grad.norm().item():.7g}") for k, v in p.items()}}


print(json.dumps({"input_ids": IDS, "attention_mask": MASK, "labels": LABELS,
                  "models": {os.path.basename(f.rstrip("/")): golden(f) for f in sys.argv[1:]}}))
