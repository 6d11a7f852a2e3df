"""Writes t5_legacy.json: T5's tokenizer with and without `legacy`, around a model of sentencepiece.json.

Made with transformers 4.57.6 (the last with T5's tokenizer over sentencepiece; 5 reads the option no more) and
sentencepiece 0.2.2: python t5_legacy_golden.py
"""
import base64, json, os, tempfile

from transformers.models.t5.tokenization_t5 import T5Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [
    "", " ", "\n", "the cat", " the cat", "the cat ", "  the  cat ", "\u2581", "\u2581the", "the\u2581cat", "\u2581\u2581the",
    "<extra_id_0>", "<extra_id_0>the", "<extra_id_0> the", "the<extra_id_0>", "the <extra_id_0>", "  <extra_id_0> ",
    "<extra_id_0><extra_id_1>", "<extra_id_0>  <extra_id_1>  the", "the <extra_id_0> sleeps under <extra_id_1> tree</s>",
    "l'<extra_id_0>d'\u00e9t\u00e9", "<extra_id_0>, then", "<extra_id_0>   many   spaces   ", "\u00a0<extra_id_0>\u00a0the",
    "\t<extra_id_0>\tthe", "<extra_id_0>\nthe", "<extra_id_0>\u2581the", "<extra_id_0>\u2581", "\u2581<extra_id_0>",
    " \u2581<extra_id_5> \u2581 the", "the</s>cat", "the </s> cat", "</s>\u2581the", "<pad> the<pad>cat", "<unk>the", "<unk> the",
    "the <unk> cat", "\u4e2d<unk>\u4e2d", "<extra_id_99>the", "<extra_id_100>the", "<extra_id_00>", "<extra_id_0", "<extra_id_0>\u4e2d \u6587",
    "\U0001f600<extra_id_0>\U0001f600", "\ufb01<extra_id_0>\ufb01 \ufb01", "e\u0301<extra_id_0>\u0301the",
]

model = json.load(open(os.path.join(HERE, "sentencepiece.json")))["models"][0]
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "spiece.model")
    open(path, "wb").write(base64.b64decode(model["model"]))
    result = {"model": model["name"], "legacy": [], "modern": []}
    for kind in ["legacy", "modern"]:
        tokenizer = T5Tokenizer(path, legacy=kind == "legacy")
        for text in TEXTS:
            tokens = tokenizer.tokenize(text)
            ids = tokenizer.convert_tokens_to_ids(tokens)
            split = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
            with_end = ids + [tokenizer.eos_token_id]
            result[kind].append({
                "text": text, "ids": ids, "tokens": tokens, "split": split, "decoded": tokenizer.decode(with_end),
                "skipped": tokenizer.decode(with_end, skip_special_tokens=True),
            })
rows = {k: ("[\n" + ",\n".join(json.dumps(r) for r in v) + "\n]" if k != "model" else json.dumps(v)) for k, v in result.items()}
open(os.path.join(HERE, "t5_legacy.json"), "w").write("{\n" + ",\n".join(f"{json.dumps(k)}: {v}" for k, v in rows.items()) + "\n}\n")
