"""The README of a converted folder."""

import math

from triptych.configs.trimodal import TrimodalRun
from triptych.trainer.checkpoint.foreign.weights import Shapes

_CARD = """---
library_name: transformers
tags: [masked-diffusion, multimodal, text-to-image, text-to-speech]
---
# {name}

A masked diffusion transformer over text, image and audio tokens: {parameters:,} parameters, {layers} layers of \
{hidden}, sequences of {length} positions{tokens}. The stream of tokens is that of arXiv 2602.21472.

The code in this folder needs torch, transformers and safetensors, nothing else; read it before you trust it.

```python
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("FOLDER", trust_remote_code=True)

prompt = tokenizer("three", add_special_tokens=False)["input_ids"]
codes = model.generate("t2i", [prompt], num=4, seed=0)         # t2i, t2s, i2t, s2t or text
image = model.codec("image").decode(codes[0])                  # uint8 [height, width]

caption = model.generate("i2t", [model.codec("image").encode(image).tolist()])
print(tokenizer.decode(caption[0]))
```

`generation_config.json` has the samplers; `model.generate(..., image={{"num_steps": 32}})` changes one. The same seed
gives the same samples as `triptych sample`, on a CPU in fp32 to the bit. `model(input_ids, rows=...)` gives logits of
each modality: column 0 is END, column j code j - 1. `triptych convert FOLDER RUN_DIR --to native` goes back.

Do not expect it to be right, fair or safe: nothing was done to make it so.
"""


def model_card(run: TrimodalRun, shapes: Shapes, tokens: int | None) -> str:
    """Markdown, with what is known of the model."""
    return _CARD.format(
        name=run.name,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        layers=run.model.num_layers,
        hidden=run.model.hidden_size,
        length=run.model.sequence_length,
        tokens="" if tokens is None else f", trained on {tokens:,} tokens",
    )
