"""The sampling loop of masked diffusion: from hidden to filled, a few positions per step, each modality by its own
settings.

Settings of a modality: num_steps, rule (its `kind`, `schedule` and more), temperature, top_p, guidance, block_length,
may_end. All randomness is a function of (seed, sample key, step, position).

Shape legend: B sequences, S positions, R rows, V ids of one modality.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from triptych.models.hugging_face.configuration_triptych import MODALITIES, SIDES, TASKS, TriptychConfiguration
from triptych.models.hugging_face.noise_triptych import REVEAL, SAMPLING, uniform
from triptych.models.hugging_face.sequences_triptych import Canvas, pair_canvas, region_codes, text_canvas

Settings = Mapping[str, Mapping[str, Any]]
"""By modality."""

_MAX_STEPS = 2**16 - 1
"""What the key of the noise has room for."""
_RULES = {
    "ancestral": {"kind", "schedule"},
    "confidence": {"kind", "schedule"},
    "maskgit": {"kind", "schedule", "choice_temperature"},
}
"""What each rule must say."""
_RANGES = {
    "num_steps": f"in 1..{_MAX_STEPS}",
    "temperature": "0 or more",
    "top_p": "above 0 and at most 1",
    "guidance": "-1 or more",
    "block_length": "1 or more, or None",
    "rule": f"a whole rule, one of {', '.join(_RULES)} with its schedule",
}


def changed_settings(modality: str, known: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A modality's settings with some of them changed. ValueError for one that there is not, or outside its range."""
    for name in changes:
        if name not in known:
            raise ValueError(f"sampling of {modality} has no {name}; use {', '.join(known)}")
    settings = {**known, **changes}
    length, rule = settings["block_length"], settings["rule"]
    fits = {
        "num_steps": 1 <= settings["num_steps"] <= _MAX_STEPS,
        "temperature": 0 <= settings["temperature"] < math.inf,
        "top_p": 0 < settings["top_p"] <= 1,
        "guidance": -1 <= settings["guidance"] < math.inf,
        "block_length": length is None or length >= 1,
        "rule": _RULES.get(rule.get("kind"), {"none is known"}) <= rule.keys(),
    }
    for name, is_right in fits.items():
        if not is_right:
            raise ValueError(f"sampling of {modality}: {name} {settings[name]} is not {_RANGES[name]}; change it")
    return settings


def generate_codes(
    model: Any,
    task: str,
    conditions: Sequence[Sequence[int]],
    settings: Settings,
    *,
    num: int,
    seed: int,
    first_key: int,
    batch_size: int,
) -> list[Tensor]:
    """Codes of `num` outputs for each condition, in order. Rows that are sampled together are those of the model's own
    library, so that nothing differs by the shapes of matrices.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is unknown; use one of {', '.join(TASKS)}")
    if num < 1:
        raise ValueError(f"num {num} is below 1; give the number of outputs for each condition")
    config: TriptychConfiguration = model.config
    made: list[Tensor] = []
    if task == "text":
        for number, beginning in enumerate(conditions):
            canvas = text_canvas(config, beginning, num)
            made += _filled(model, canvas, "text", settings, seed, first_key + number * num)
        return made
    repeated = [codes for codes in conditions for _ in range(num)]
    for start in range(0, len(repeated), batch_size):
        canvas = pair_canvas(config, task, repeated[start : start + batch_size])
        made += _filled(model, canvas, SIDES[task][1], settings, seed, first_key + start)
    return made


def _filled(model: Any, canvas: Canvas, modality: str, settings: Settings, seed: int, key: int) -> list[Tensor]:
    samples_B = torch.arange(key, key + len(canvas.tokens_BS))
    tokens_BS = sample(model, canvas, settings, seed, samples_B).cpu()
    return [
        region_codes(model.config, modality, row[place]) for row, place in zip(tokens_BS, canvas.targets, strict=True)
    ]


@dataclass
class _Moment:
    """One step of one modality: what may be revealed, how many there were when its block was begun, and the times."""

    hidden_BS: Tensor
    num_start_B: Tensor
    time: float
    next_time: float


def sample(model: Any, canvas: Canvas, settings: Settings, seed: int, samples_B: Tensor) -> Tensor:
    """int64 [B, S], every hole filled. ValueError for more steps in all than the noise has keys for."""
    device = model.device
    tokens_BS, modality_BS = canvas.tokens_BS.to(device), canvas.modality_BS.to(device)
    samples_B, hidden_BS = samples_B.to(device), modality_BS >= 0
    blocks = {m: _blocks(modality_BS == i, settings[m]) for i, m in enumerate(MODALITIES)}
    steps = {m: (int(blocks_BS.max()) + 1) * settings[m]["num_steps"] for m, blocks_BS in blocks.items()}
    if max(steps.values()) > _MAX_STEPS:
        raise ValueError(
            f"{max(steps.values())} steps are more than {_MAX_STEPS}; lower num_steps or raise block_length"
        )
    for step in range(max(steps.values())):
        choices_BS = uniform(seed, REVEAL, samples_B, step, tokens_BS.shape[1])
        draws_BS = uniform(seed, SAMPLING, samples_B, step, tokens_BS.shape[1])
        moments = {m: _moment(settings[m], blocks[m], step, hidden_BS) for m in MODALITIES if step < steps[m]}
        wanted = {m: _wanted(settings[m]["rule"], moment, choices_BS) for m, moment in moments.items()}
        rows = {m: wanted_BS.flatten().nonzero()[:, 0] for m, wanted_BS in wanted.items() if bool(wanted_BS.any())}
        if not rows:
            continue
        logits = _guided(model, canvas, tokens_BS, rows, settings)
        proposals_BS, revealed_BS = tokens_BS.clone(), torch.zeros_like(hidden_BS)
        for m, rows_R in rows.items():
            ids_R, log_confidences_R = _draw(model.config, m, logits[m], draws_BS.flatten()[rows_R], settings[m])
            proposals_BS.view(-1)[rows_R] = ids_R
            log_confidences_BS = torch.full_like(draws_BS, -torch.inf)
            log_confidences_BS.view(-1)[rows_R] = log_confidences_R
            revealed_BS |= _revealed(settings[m]["rule"], moments[m], wanted[m], log_confidences_BS, choices_BS)
        tokens_BS = torch.where(revealed_BS, proposals_BS, tokens_BS)
        hidden_BS = hidden_BS & ~revealed_BS
    return tokens_BS


def _blocks(holes_BS: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """int64 [B, S]: which block of its row's holes a position is in, from left to right; -1 elsewhere."""
    ranks_BS = holes_BS.long().cumsum(1) - 1
    length = settings.get("block_length")
    blocks_BS = torch.zeros_like(ranks_BS) if length is None else ranks_BS // length
    return blocks_BS.masked_fill(~holes_BS, -1)


def _moment(settings: Mapping[str, Any], blocks_BS: Tensor, step: int, hidden_BS: Tensor) -> _Moment:
    num_steps = settings["num_steps"]
    block, index = divmod(step, num_steps)
    inside_BS = blocks_BS == block
    return _Moment(
        hidden_BS=hidden_BS & inside_BS,
        num_start_B=inside_BS.sum(1),
        time=(num_steps - index) / num_steps,
        next_time=(num_steps - index - 1) / num_steps,
    )


def _level(schedule: Mapping[str, Any], time: float) -> float:
    """How much is hidden at a time: m(t), from 0 at 0 to 1 at 1."""
    t = torch.tensor(time, dtype=torch.float64)
    match schedule["kind"]:
        case "linear":
            return float(t)
        case "cosine":
            return float(torch.sin(math.pi / 2 * t))
        case "cosine_mdlm":
            return float(2 * torch.sin(math.pi / 4 * t) ** 2)
        case "cosine_squared":
            return float(torch.sin(math.pi / 2 * t) ** 2)
        case "polynomial":
            return float(t ** schedule["power"])
        case "geometric":
            ratio, span = schedule["sigma_max"] / schedule["sigma_min"], schedule["sigma_max"] - schedule["sigma_min"]
            grown = schedule["sigma_min"] * torch.expm1(t * math.log(ratio))
            return float((torch.expm1(-grown) / math.expm1(-span)).clamp(max=1))
    raise ValueError(f"schedule {schedule['kind']!r} is unknown; use linear, cosine or another that the model knows")


def _wanted(rule: Mapping[str, Any], moment: _Moment, choices_BS: Tensor) -> Tensor:
    """bool [B, S]: positions whose tokens must be drawn."""
    if rule["kind"] == "ancestral":
        stays = _level(rule["schedule"], moment.next_time) / _level(rule["schedule"], moment.time)
        return moment.hidden_BS & (choices_BS >= stays)
    return moment.hidden_BS & (_counts(rule["schedule"], moment) > 0)[:, None]


def _revealed(
    rule: Mapping[str, Any], moment: _Moment, wanted_BS: Tensor, log_confidences_BS: Tensor, choices_BS: Tensor
) -> Tensor:
    """bool [B, S]: of those, the ones to keep. Ancestral: all; else the surest, for MaskGIT with fading noise."""
    if rule["kind"] == "ancestral":
        return wanted_BS
    scores_BS = log_confidences_BS
    if rule["kind"] == "maskgit":
        gumbel_BS = -torch.log(-torch.log(choices_BS))
        scores_BS = log_confidences_BS + rule["choice_temperature"] * moment.next_time * gumbel_BS
    order_BS = scores_BS.argsort(dim=1, descending=True, stable=True)
    place_BS = torch.arange(scores_BS.shape[1], device=order_BS.device).expand_as(order_BS)
    ranks_BS = torch.empty_like(order_BS).scatter(1, order_BS, place_BS)
    return wanted_BS & (ranks_BS < _counts(rule["schedule"], moment)[:, None])


def _counts(schedule: Mapping[str, Any], moment: _Moment) -> Tensor:
    """int64 [B]: how many to reveal so that floor(n m(s)) stay hidden."""
    left_B = torch.floor(moment.num_start_B * _level(schedule, moment.next_time) + 1e-9).long()
    return (moment.hidden_BS.sum(1) - left_B).clamp(min=0)


def _guided(
    model: Any, canvas: Canvas, tokens_BS: Tensor, rows: Mapping[str, Tensor], settings: Settings
) -> dict[str, Tensor]:
    """Logits [R, V], u + (s + 1) (c - u) where a modality has a strength s; the second half of the batch is without
    condition.
    """
    guided = [m for m in rows if settings[m]["guidance"] != 0]
    visible_BS = None if canvas.padding_BS is None else ~canvas.padding_BS.to(tokens_BS.device)
    if guided:
        offset = tokens_BS.numel()
        bare_BS = tokens_BS.masked_fill(canvas.condition_BS.to(tokens_BS.device), model.config.special("mask"))
        tokens_BS = torch.cat([tokens_BS, bare_BS])
        rows = {m: torch.cat([rows_R, rows_R + offset]) if m in guided else rows_R for m, rows_R in rows.items()}
        visible_BS = None if visible_BS is None else torch.cat([visible_BS, visible_BS])
    logits = dict(model(tokens_BS, visible_BS, rows).logits)
    for m in guided:
        conditional_RV, unconditional_RV = (half.double() for half in logits[m].chunk(2))
        logits[m] = unconditional_RV + (settings[m]["guidance"] + 1) * (conditional_RV - unconditional_RV)
    return logits


def _draw(
    config: TriptychConfiguration, modality: str, logits_RV: Tensor, draws_R: Tensor, settings: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Ids, int64 [R], by inversion of the cumulative sum at the temperature, cut to the nucleus; and the model's own
    log-probability of each, float64 [R].
    """
    logits_RV = logits_RV[:, : config.num_outputs(modality)].double()
    if not settings["may_end"]:
        end = torch.zeros(1, dtype=torch.int64, device=logits_RV.device)
        logits_RV = logits_RV.index_fill(1, end, -torch.inf)
    log_probabilities_RV = torch.log_softmax(logits_RV, dim=1)
    if settings["temperature"] == 0:
        ids_R = log_probabilities_RV.argmax(1)
    else:
        probabilities_RV = torch.softmax(log_probabilities_RV / settings["temperature"], dim=1)
        if settings["top_p"] < 1:
            probabilities_RV = _nucleus(probabilities_RV, settings["top_p"])
        cumulative_RV = probabilities_RV.cumsum(1)
        total_R = cumulative_RV[:, -1]
        level_R = torch.minimum(draws_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
        ids_R = torch.searchsorted(cumulative_RV, level_R[:, None], right=True)[:, 0]
    return config.end(modality) + ids_R, log_probabilities_RV.gather(1, ids_R[:, None])[:, 0]


def _nucleus(probabilities_RV: Tensor, top_p: float) -> Tensor:
    """Zeroes what is outside the smallest set of likeliest ids with mass >= top_p."""
    sorted_RV, order_RV = probabilities_RV.sort(dim=1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(1) - sorted_RV
    before_RV[:, 0] = 0
    kept_RV = torch.zeros_like(before_RV, dtype=torch.bool).scatter(1, order_RV, before_RV < top_p)
    return probabilities_RV * kept_RV
