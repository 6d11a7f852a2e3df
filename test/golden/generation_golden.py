"""What transformers' generate writes, for test/generation.test.ts.

python3 test/golden/generation_golden.py FOLDER > test/golden/generation.json
FOLDER holds the models that `node dist/test/golden/save_models.js FOLDER` saves; made with transformers 5.18.
"""
import json, random, sys, torch
from transformers import T5Config, T5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration

IDS = [[5, 9, 13, 2, 37, 8, 1], [7, 3, 22, 1, 0, 0, 0]]
MASK = [[1] * 7, [1] * 4 + [0] * 3]
V = 40
CALLS = [
    {}, {"num_beams": 4}, {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True, "num_return_sequences": 3},
    {"num_beams": 4, "length_penalty": -1.0, "early_stopping": "never", "num_return_sequences": 2},
    {"num_beams": 2, "length_penalty": 0.5, "max_length": 9}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.7},
    {"num_beams": 3, "no_repeat_ngram_size": 1, "repetition_penalty": 0.8}, {"min_new_tokens": 6, "eos_token_id": [1, 4, 9, 22]},
    {"num_beams": 3, "eos_token_id": [1, 4, 9, 22, 30, 31]}, {"num_beams": 2, "min_length": 5, "eos_token_id": [1, 6, 17, 25]},
    {"bad_words_ids": [[3], [12, 4], [1], [30, 31, 32]]}, {"num_beams": 2, "sequence_bias": [[[7], 3.5], [[7, 9], 4.0], [[2], -5.0]]},
    {"suppress_tokens": [0, 2, 3, 4, 5, 6, 7, 8], "begin_suppress_tokens": [1, 10, 11, 12, 13, 14, 15]},
    {"forced_bos_token_id": 12, "forced_eos_token_id": 1, "num_beams": 3}, {"exponential_decay_length_penalty": [2, 1.8]},
    {"decoder_input_ids": [[0, 11, 12], [0, 8, 30]], "num_beams": 3}, {"decoder_input_ids": [[11, 12], [8, 30]], "min_new_tokens": 3},
    {"num_beams": 3, "renormalize_logits": True, "repetition_penalty": 1.3}, {"pad_token_id": 5, "eos_token_id": [4, 9, 22, 30, 31, 17]},
]
golden = []
for name in ("v1_1", "umt5"):
    cls, config = (UMT5ForConditionalGeneration, UMT5Config) if name == "umt5" else (T5ForConditionalGeneration, T5Config)
    with open(f"{sys.argv[1]}/{name}/config.json") as file: fields = json.load(file)
    fields.update({k: float(fields[k]) for k in ("initializer_factor", "dropout_rate", "classifier_dropout")})
    model = cls.from_pretrained(f"{sys.argv[1]}/{name}", config=config(**fields), dtype=torch.float32).eval()
    model.config.tie_word_embeddings = False  # which its constructor forces
    for call in CALLS:
        args = {k: torch.tensor(v) if k == "decoder_input_ids" else tuple(v) if k.startswith("exp") else v for k, v in call.items()}
        if "max_length" not in args: args["max_new_tokens"] = 12
        with torch.no_grad():
            out = model.generate(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK), do_sample=False, return_dict_in_generate=True, output_scores=True, **args)
        entry = {"model": name, "call": {**call, **({} if "max_length" in call else {"max_new_tokens": 12})}, "sequences": out.sequences.tolist()}
        if call.get("num_beams", 1) > 1: entry["sequences_scores"] = [round(s, 5) for s in out.sequences_scores.tolist()]
        golden.append(entry)
print("[\n" + ",\n".join(json.dumps(g) for g in golden) + "\n]")
