"""The numbers of a run, as they go into report.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from triptych.trainer.evaluation.proportions import Proportion

ACCURACIES = (
    "t2i_accuracy",
    "t2s_accuracy",
    "i2t_accuracy",
    "s2t_accuracy",
    "judge_image_accuracy",
    "judge_speech_accuracy",
)
_DERIVED = ("confidence", "perplexity_bound")


@dataclass(kw_only=True, slots=True, frozen=True)
class Scores:
    """What was measured; None (null in JSON) is what was not.

    Accuracies: `t2i`, `t2s` by the judges on generated images and speech, `i2t`, `s2t` by the digit that the generated
    text names, `judge_*` of the judges themselves on real held-out data. *_character_error: edits over reference
    characters. nelbo_nats_per_token: modality to the bound on the negative log-likelihood, with fixed noise. seconds:
    wall clock of the whole run. tokens: positions trained on, padding not counted. commit: of the code, with "-dirty"
    if it was changed. weights: "weights", or the name of the average of them that was scored.
    """

    t2i_accuracy: Proportion | None = None
    t2s_accuracy: Proportion | None = None
    i2t_accuracy: Proportion | None = None
    s2t_accuracy: Proportion | None = None
    judge_image_accuracy: Proportion | None = None
    judge_speech_accuracy: Proportion | None = None
    i2t_character_error: float | None = None
    s2t_character_error: float | None = None
    text_nelbo_bits_per_byte: float | None = None
    text_unigram_bits_per_byte: float | None = None
    text_gzip_bits_per_byte: float | None = None
    text_gzip_primed_bits_per_byte: float | None = None
    nelbo_nats_per_token: Mapping[str, float] = field(default_factory=dict)
    tokens_per_second: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    num_parameters: int | None = None
    commit: str | None = None
    weights: str | None = None

    @property
    def perplexity_bound(self) -> dict[str, float]:
        """exp of the NELBO per token: an upper bound on the perplexity, per modality; infinite where exp overflows."""
        return {name: math.exp(nats) if nats < 700 else math.inf for name, nats in self.nelbo_nats_per_token.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: accuracies as numbers, their trials and intervals under "confidence", null for NaN."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        confidence = {}
        for name in ACCURACIES:
            proportion = values[name]
            if proportion is not None:
                low, high = proportion.interval
                counts = {"successes": proportion.successes, "trials": proportion.trials}
                confidence[name] = counts | {"interval_95": [low, high]}
                values[name] = proportion.value
        values |= {"nelbo_nats_per_token": dict(self.nelbo_nats_per_token), "perplexity_bound": self.perplexity_bound}
        return json_safe(values | {"confidence": confidence})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What `to_json` gave. ValueError for a key that is none of ours, or an accuracy without its counts."""
        names = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(values) - names - set(_DERIVED)):
            raise ValueError(f"unknown score {unknown[0]!r}; known are {', '.join(sorted(names))}")
        kept = {name: value for name, value in values.items() if name in names}
        confidence = values.get("confidence", {})
        for name in ACCURACIES:
            if kept.get(name) is not None:
                if name not in confidence:
                    raise ValueError(f"score {name!r} has no entry under 'confidence'; give its successes and trials")
                kept[name] = Proportion(successes=confidence[name]["successes"], trials=confidence[name]["trials"])
        return cls(**kept)

    def dumps(self) -> str:
        """Indented JSON text; strict, so never NaN or Infinity."""
        return json.dumps(self.to_json(), indent=2, allow_nan=False)


def json_safe(value: Any) -> Any:
    """The same value of nested dicts and lists, with null for every float that is not finite."""
    if isinstance(value, Mapping):
        return {key: json_safe(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
