"""Peers of `fat5 bench gpu --python`: bench_gpu_peers.py WORK, WORK being one case as JSON.

Compiles first and says {"done": true}. Then each line of its input names a part of the work ("forward", or nothing): it measures
that with every peer it has and prints a JSON line each, {"peer", "milliseconds", "peakMegabytes"} or {"peer", "error"}, and done again.
Hugging Face and PyTorch are expected; flashT5 (catie-aq/flashT5), turboT5's src (Knowledgator/TurboT5) and nai-t5 (NovelAI/t5) take
part where PYTHONPATH has them. Random data and weights. FAT5_PEER_DEVICE=cpu tries the script without a GPU.
"""
import gc, importlib, json, math, os, sys, time

BEGAN = time.time()
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # many of these compile beside each other
import torch
import torch.nn.functional as F

DEVICE = os.environ.get("FAT5_PEER_DEVICE", "cuda")
GPU = DEVICE == "cuda"
HALF = torch.bfloat16
STEPS, WARM_UP = 8, 3
BUCKETS, FARTHEST = 32, 128

torch.manual_seed(0)
torch.set_float32_matmul_precision("high")
torch._dynamo.config.cache_size_limit = 64
torch._functorch.config.donated_buffer = False  # a kernel's backward is timed on one graph again and again


def say(**line):
    print(json.dumps(line), flush=True)


def wait():
    if GPU:
        torch.cuda.synchronize()


def forget():
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()


def patiently(run):
    """Runs something that another process may have left too little memory for, for a while."""
    for _ in range(60):
        try:
            return run()
        except torch.OutOfMemoryError:
            pass
        forget()
        time.sleep(1)
    return run()


def by_clock(run, steps=STEPS, warm_up=WARM_UP):
    """Milliseconds of one of several runs in a row."""
    for _ in range(warm_up):
        run()
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        run()
    wait()
    return (time.perf_counter() - began) / steps * 1e3


def by_events(run):
    """Milliseconds on the device, the median of many runs, each after a write to more memory than the cache holds."""
    if not GPU:
        return by_clock(run)
    from triton.testing import do_bench

    return do_bench(run, warmup=8, rep=25, return_mode="median")


class Peers:
    """What `measure` runs: functions by peer's name, each giving a function to time for a part, or None where it has none."""

    def __init__(self):
        self.found = {}

    def add(self, name, parts, compiled=True, timer=by_events, holds=None):
        """`parts(part)` is what to time. Whatever is compiled runs once now. `holds`: its tensors, where others hold more."""
        self.found[name] = (parts, timer, compiled, holds)
        if not compiled:
            return
        for part in PARTS:
            try:
                run = parts(part)
                if run:
                    patiently(run)
            except Exception as error:
                del self.found[name]
                say(peer=name, error=f"{type(error).__name__}: {error}"[:300])
                break
        forget()

    def measure(self, part):
        for name, (parts, timer, compiled, holds) in self.found.items():
            try:
                others = 0
                if GPU and holds:
                    others = torch.cuda.memory_allocated() - sum(x.numel() * x.element_size() for x in holds)
                run = parts(part)
                if run is None:
                    continue
                if not compiled:  # the others have run before
                    run()
                if GPU:
                    torch.cuda.reset_peak_memory_stats()
                milliseconds = timer(run)
                peak = (torch.cuda.max_memory_allocated() - others) / 1e6 if GPU else 0
                say(peer=name, milliseconds=milliseconds, peakMegabytes=peak)
            except Exception as error:
                say(peer=name, error=f"{type(error).__name__}: {error}"[:300])
            forget()


def optional(module):
    try:
        return importlib.import_module(module)
    except Exception:
        return None


def t5_config(shape):
    from transformers import T5Config

    return T5Config(
        **shape,
        num_decoder_layers=shape["num_layers"],
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def ids(rows, columns):
    return torch.randint(3, WORK["model"]["vocab_size"] - 10, (rows, columns), device=DEVICE)


def made(kind, config):
    with torch.device(DEVICE):
        return kind(config).to(DEVICE, HALF)


def train(peers):
    from transformers import T5ForConditionalGeneration

    source, labels = ids(WORK["rows"], WORK["source"]), ids(WORK["rows"], WORK["target"])
    on_clock = lambda run: by_clock(run, steps=5, warm_up=2)

    def trained(model, optimizer, forward):
        def step():
            loss = forward(input_ids=source, labels=labels)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    model = made(T5ForConditionalGeneration, t5_config(WORK["model"])).train()
    model.config.use_cache = False
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=GPU)
    compiled = torch.compile(model, dynamic=False)
    peers.add("HF compiled", lambda _: trained(model, adamw, compiled), timer=on_clock)
    peers.add("HF eager", lambda _: trained(model, adamw, model), compiled=False, timer=on_clock)

    flash = optional("src.model.modeling_flash_t5")
    if flash:
        settings = importlib.import_module("src.model.configuration_flash_t5").FlashT5Config(
            **WORK["model"],
            num_decoder_layers=WORK["model"]["num_layers"],
            **dict(attention_type="triton", position_encoding_type="t5", use_triton_layernorm=True),
            **dict(use_triton_crossentropy=True, use_glu_mlp=True, use_gelu_act=True, z_loss=1e-4, attention_scale=1.0),
            **dict(max_sequence_length=1024, dropout_rate=0.0, attention_dropout_rate=0.0, tie_word_embeddings=False),
            **dict(relative_attention_num_buckets=BUCKETS, relative_attention_max_distance=FARTHEST),
            **dict(pad_token_id=0, decoder_start_token_id=0),
        )
        settings.tie_word_embeddings = False  # transformers 5 sets it in the constructor
        theirs = made(flash.FlashT5ForConditionalGeneration, settings).train()
        scaled = importlib.import_module("src.utils.adamw_scaled").AdamWScale
        kahan = scaled(theirs.parameters(), lr=1e-4, kahan_sum=True, foreach=True)
        peers.add("flashT5", lambda _: trained(theirs, kahan, theirs), timer=on_clock)


def encode(peers):
    from transformers import T5EncoderModel

    config = t5_config(WORK["model"])
    source = ids(WORK["rows"], WORK["source"])
    mask = torch.ones_like(source)
    model = made(T5EncoderModel, config).eval()
    compiled = torch.compile(model, dynamic=False)

    def inferred(run):
        def go():
            with torch.inference_mode():
                run()

        return go

    peers.add("HF compiled", lambda _: inferred(lambda: compiled(source, attention_mask=mask)))
    nai = optional("nai_t5.t5_encoder")
    if nai:
        common, hf = importlib.import_module("nai_t5.t5_common"), importlib.import_module("nai_t5.t5_hf")
        settings = hf.to_based_config(config, n_tokens=WORK["source"])
        settings.elementwise_affine = False
        settings.linear_weight_dtype = settings.emb_weight_dtype = settings.norm_weight_dtype = HALF
        settings = settings.model_copy(
            update={"attn_impl": common.T5AttnImpl.Flex, "flex_kernel_options": {"BLOCK_M": 128, "BLOCK_N": 64}}
        )
        with torch.device(DEVICE):
            encoder = nai.T5EncoderStack(settings).eval()
        encoder.bind_score_mods(WORK["source"])
        fast = torch.compile(encoder, dynamic=False, fullgraph=True)
        blocks = lambda: nai.make_self_attn_block_mask(mask=mask.bool(), mask_pad_queries=True)
        peers.add("nai-t5 flex", lambda _: inferred(lambda: fast(source, block_mask=blocks())))


def decode(peers):
    from transformers import T5ForConditionalGeneration

    source, count = ids(WORK["rows"], WORK["source"]), WORK["target"]
    on_clock = lambda run: by_clock(run, steps=1, warm_up=0)

    def generating(**options):
        model = made(T5ForConditionalGeneration, t5_config(WORK["model"])).eval()
        for name, value in options.items():
            setattr(model.generation_config, name, value)
        fixed = dict(max_new_tokens=count, min_new_tokens=count, do_sample=False, num_beams=1)
        return model, lambda: model.generate(source, **fixed)

    plain, run = generating()
    peers.add("HF eager", lambda _: run, timer=on_clock)
    static, run_static = generating(cache_implementation="static")
    static.forward = torch.compile(static.forward, dynamic=False)
    peers.add("HF static compiled", lambda _: run_static, timer=on_clock)


def bucket(relative, bidirectional):
    """T5's bucket of key position minus query position."""
    count = BUCKETS
    result = torch.zeros_like(relative)
    if bidirectional:
        count //= 2
        result = count * (relative > 0)
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = count // 2
    scale = (count - exact) / math.log(FARTHEST / exact)
    far = exact + (torch.log(distance.clamp(min=1).float() / exact) * scale).long()
    return result + torch.where(distance < exact, distance, far.clamp(max=count - 1))


def attention(peers):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    B, H, M, N, D, causal = (WORK[name] for name in ("B", "H", "M", "N", "D", "causal"))
    q, k, v = (torch.randn(B, H, length, D, device=DEVICE, dtype=HALF, requires_grad=True) for length in (M, N, N))
    dout = torch.randn(B, H, M, D, device=DEVICE, dtype=HALF)
    offsets = bucket(torch.arange(1 - M, N, device=DEVICE), not causal)
    diagonals = torch.randn(BUCKETS, H, device=DEVICE)[offsets].T.contiguous()

    def both(forward, wanted):
        def parts(part):
            if part == "forward":
                return forward
            out = forward()
            return lambda: torch.autograd.grad(out, wanted, dout, retain_graph=True)

        return parts

    bias = diagonals.clone().requires_grad_(True)
    seen = create_block_mask(lambda b, h, m, n: m >= n, None, None, M, N, device=DEVICE) if causal else None
    compiled = torch.compile(flex_attention, dynamic=False) if GPU else flex_attention
    by_diagonal = lambda table: lambda score, b, h, m, n: score + table[h, n - m + M - 1]
    fixed = diagonals.to(HALF)

    def flex(table):
        score = by_diagonal(table)
        return lambda: compiled(q, k, v, score_mod=score, block_mask=seen, scale=1.0)

    peers.add("flex, fixed bias", both(flex(fixed), (q, k, v)), holds=(q, k, v, dout, fixed))
    if M * N <= 4096 * 4096:
        peers.add("flex, learned bias", both(flex(bias), (q, k, v, bias)), holds=(q, k, v, dout, bias))

    def cudnn(mask, is_causal):
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION if GPU else SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=1.0)

    peers.add("cuDNN, no bias", both(lambda: cudnn(None, causal), (q, k, v)), holds=(q, k, v, dout))
    if M * N <= 4096 * 4096:
        place = torch.arange(N, device=DEVICE)[None] - torch.arange(M, device=DEVICE)[:, None]
        dense = fixed[:, place + M - 1][None].contiguous()
        if causal:
            dense = dense.masked_fill(place > 0, float("-inf"))
        peers.add("cuDNN, fixed bias", both(lambda: cudnn(dense, False), (q, k, v)), holds=(q, k, v, dout, dense))
        flash = optional("src.model.ops.flash_attention_v2_bias")
        if flash:
            learned = fixed[:, place + M - 1][None].contiguous().requires_grad_(True)
            run = lambda: flash.flash_attention_v2_bias(q, k, v, learned, causal, 1.0)
            peers.add("flashT5", both(run, (q, k, v, learned)), holds=(q, k, v, dout, learned))
    turbo = optional("turbot5.ops.fused_bias_attention")
    if turbo and M == N:
        table = torch.randn(BUCKETS, H, device=DEVICE, dtype=HALF)
        run = lambda: turbo.flash_attention_with_fusing_bias(q, k, v, table, causal, 1.0, BUCKETS, FARTHEST)
        # its backward takes a second and more: forward alone
        peers.add("turboT5", lambda part: run if part == "forward" else None, holds=(q, k, v, table))


def rms_norm(peers):
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    rows, width = WORK["rows"], WORK["width"]
    x = torch.randn(rows, width, device=DEVICE, dtype=HALF, requires_grad=True)
    dout = torch.randn_like(x)
    norm = T5LayerNorm(width).to(DEVICE, HALF)

    def both(forward):
        def parts(part):
            if part == "forward":
                return forward
            out = forward()
            return lambda: torch.autograd.grad(out, (x, norm.weight), dout, retain_graph=True)

        return parts

    compiled = torch.compile(lambda x: norm(x))
    peers.add("HF compiled", both(lambda: compiled(x)))
    peers.add("torch.rms_norm", both(lambda: F.rms_norm(x, (width,), norm.weight, 1e-6)))
    flash = optional("src.model.ops.rms_norm")
    if flash:
        peers.add("flashT5", both(lambda: flash.fast_rms_layernorm(x, norm.weight, 1e-6)))


def cross_entropy(peers):
    rows, width = WORK["rows"], WORK["vocabulary"]
    logits = torch.randn(rows, width, device=DEVICE, dtype=HALF, requires_grad=True)
    labels = torch.randint(0, width, (rows,), device=DEVICE)

    def loss(logits):
        wide = logits.float()
        return F.cross_entropy(wide, labels) + 1e-4 * (torch.logsumexp(wide, -1) ** 2).mean()

    def step(of):
        return lambda _: lambda: torch.autograd.grad(of(logits), logits)

    peers.add("PyTorch compiled", step(torch.compile(loss)))
    peers.add("PyTorch eager", step(loss), compiled=False)
    flash = optional("src.model.ops.cross_entropy_loss")
    if flash:
        peers.add("flashT5", step(lambda x: flash.cross_entropy_loss(x, labels, lse_square_scale=1e-4)[0].mean()))


WORK = json.loads(sys.argv[1])
PARTS = ("forward", "backward") if WORK["kind"] in ("attention", "rms_norm") else ("",)
KINDS = dict(train=train, encode=encode, decode=decode, attention=attention, rms_norm=rms_norm, cross_entropy=cross_entropy)

if __name__ == "__main__":
    peers = Peers()
    KINDS[WORK["kind"]](peers)
    forget()
    say(done=True, seconds=round(time.time() - BEGAN))
    for line in sys.stdin:
        peers.measure(line.strip())
        say(done=True)
