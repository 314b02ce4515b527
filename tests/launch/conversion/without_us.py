"""Run where neither triptych nor megatron is installed: `python without_us.py FOLDER OUT`; writes logits, samples, and
what the codecs make of them, to compare with ours.
"""

import importlib.util
import json
import sys

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

CONDITIONS = {"t2i": [[3, 5], [7]], "t2s": [[3, 5], [7]], "i2t": [[1] * 16], "s2t": [[2, 9, 4]], "text": [[3, 5, 1]]}
SEED, NUM = 7, 3


def outputs(model, tokenizer):
    """Arrays by name."""
    made = {}
    for task, conditions in CONDITIONS.items():
        for i, codes in enumerate(model.generate(task, conditions, num=NUM, seed=SEED)):
            made[f"{task} {i}"] = codes.numpy()
    for i in range(2):
        made[f"image {i}"] = model.codec("image").decode(made[f"t2i {i}"])
        made[f"audio {i}"] = model.codec("audio").decode(made[f"t2s {i}"])
        made[f"image codes {i}"] = model.codec("image").encode(made[f"image {i}"]).numpy()
        made[f"audio codes {i}"] = model.codec("audio").encode(made[f"audio {i}"]).numpy()
    texts = [tokenizer.decode(made[f"text {i}"]) for i in range(NUM)]
    texts += [json.dumps(tokenizer("The list holds 3 files.", add_special_tokens=False)["input_ids"])]
    tokens = torch.arange(2 * model.config.sequence_length).view(2, -1)
    with torch.no_grad():
        for modality, logits in model(tokens).logits.items():
            made[f"logits {modality}"] = logits.numpy()
    return {**made, "texts": np.array(texts)}


def main(folder, out):
    for name in ("triptych", "megatron", "deepspeed"):
        assert importlib.util.find_spec(name) is None, f"{name} is installed here"
    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    np.savez(out, **outputs(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
