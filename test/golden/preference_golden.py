"""Direct preference optimization of transformers' T5 in PyTorch, float64: expected values for test/preference.test.ts.

python3 test/golden/preference_golden.py FOLDER > test/golden/preference.json
FOLDER has the models that `node dist/test/golden/save_models.js FOLDER` saves.
"""
import json, sys
import torch
from torch.nn.functional import logsigmoid
from transformers import T5ForConditionalGeneration

IDS = [[5, 9, 13, 2, 37, 8, 1], [7, 3, 22, 1, 0, 0, 0]]
MASK = [[1] * 7, [1] * 4 + [0] * 3]
LABELS = [[11, 4, 30, 1, -100], [6, 1, -100, -100, -100], [11, 5, 1, -100, -100], [2, 9, 33, 17, 1]]
REFERENCE = [-14.5, -7.25, -12, -19]
BETA = 0.3


def golden(folder):
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    labels = torch.tensor(LABELS)
    found = {}
    for eps in [0.0, 0.1]:
        model.zero_grad()
        logits = model(input_ids=torch.tensor(IDS * 2), attention_mask=torch.tensor(MASK * 2), labels=labels).logits
        logps = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        logps = (logps * (labels >= 0)).sum(-1)
        ratio = logps - torch.tensor(REFERENCE)
        margin = BETA * (ratio[:2] - ratio[2:])
        loss = (-(1 - eps) * logsigmoid(margin) - eps * logsigmoid(-margin)).mean()
        loss.backward()
        found[str(eps)] = {
            "loss": loss.item(), "log_probabilities": logps.tolist(), "margins": margin.tolist(),
            "gradient_norms": {k: float(f"{p.grad.norm().item():.8g}") for k, p in model.named_parameters()},
            "head": [float(f"{v:.8g}") for v in model.get_output_embeddings().weight.grad[30].tolist()],
        }
    return found


names = ["v1_0", "v1_1"]
print(json.dumps({"input_ids": IDS, "attention_mask": MASK, "labels": LABELS, "reference": REFERENCE, "beta": BETA,
                  "models": {name: golden(f"{sys.argv[1]}/{name}") for name in names}}))
