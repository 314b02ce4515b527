"""`triptych tokenizer train` and `adopt`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.configs.tree import with_settings
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.trainer.fit import Reporter
from triptych.trainer.parallel.groups import Groups, process_groups
from triptych.trainer.parallel.placement import Placement


def train(name: str, data: Path, out: Path, settings: Sequence[str]) -> None:
    """Train one tokenizer on the training split of a raw corpus and save it to `out`/`modality`."""
    modality = _modality(name)
    if data.name != "raw":
        raise ValueError(f"--data {data} is not named raw, as `triptych data make` writes it; rename it")
    target = out / modality
    if target.exists():
        raise ValueError(f"{target} exists; remove it or choose another --out")
    from triptych.launch.display import Display

    with process_groups(Placement()) as groups, Display() as display, display.stage(f"{modality} tokenizer"):
        tokenizer = train_tokenizer(modality, data, settings, groups, [display.reporter()])
    save_tokenizer(tokenizer, target)
    print(f"{target}: {tokenizer.vocab_size:,} codes, fingerprint {tokenizer.fingerprint[:16]}")


def adopt(name: str, source: Path, out: Path, choices: Mapping[str, Any]) -> None:
    """Make a tokenizer of a pretrained model and save it to `out`/`modality`."""
    from pydantic import TypeAdapter, ValidationError

    from triptych.data_pipelines.tokenizers.round_trip import changed
    from triptych.models.tokenizers.adopt import Adoption
    from triptych.models.tokenizers.adopt import adopt as adopt_model

    modality = _modality(name)
    try:
        checked = TypeAdapter(Adoption).validate_python(dict(choices))
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise ValueError(f"{option} {first['input']}: {first['msg']}; correct it") from None
    target = out / modality
    tokenizer = adopt_model(source, modality, target, checked)
    print(f"{target}: {tokenizer.vocab_size:,} codes, fingerprint {tokenizer.fingerprint[:16]}")
    for text in changed(tokenizer) if modality == "text" else ():
        print(f"not exact: {text!r} comes back as {tokenizer.decode(tokenizer.encode([text]))[0]!r}")


def save_tokenizer(tokenizer: Tokenizer, target: Path) -> None:
    """Write a tokenizer's folder, whole or not at all."""
    from triptych.data_pipelines.shards.atomic import atomic_folder

    with atomic_folder(target) as partial:
        tokenizer.save(partial)


def train_tokenizer(
    modality: Modality, raw: Path, settings: Sequence[str], groups: Groups, reporters: Sequence[Reporter]
) -> Tokenizer:
    """Train a tokenizer of the demo's kind for a modality."""
    from triptych.configs.tokenizers import audio_fsq_demo, build_tokenizer, image_fsq_demo, text_bpe_demo
    from triptych.trainer.fit import fit

    if modality == "text":
        return with_settings(text_bpe_demo(), settings).train(_texts(raw))
    run = with_settings(image_fsq_demo() if modality == "image" else audio_fsq_demo(), settings)
    model = run.build_model()
    fit(
        run.fit,
        chunks=[model],
        objective=run.build_objective(model),
        data=run.build_data(_items(raw, modality)),
        groups=groups,
        checkpoints=None,
        identity={},
        reporters=reporters,
    )
    return build_tokenizer(model)


def _modality(name: str) -> Modality:
    modality: Modality | None = next((known for known in MODALITIES if known == name), None)
    if modality is None:
        raise ValueError(f"there is no modality {name}; use one of {', '.join(MODALITIES)}")
    return modality


def _texts(raw: Path) -> Iterator[str]:
    """Prose, and the captions of both other sources: every text that the tokenizer will meet."""
    from triptych.configs.digits import load_texts
    from triptych.data_pipelines.corpus.make import SOURCES

    for source in SOURCES:
        yield from load_texts(raw.parent, source, "train")


def _items(raw: Path, modality: Modality) -> list[Any]:
    from triptych.configs.digits import load_labelled

    return load_labelled(raw.parent, "digits" if modality == "image" else "speech", modality, "train").items
