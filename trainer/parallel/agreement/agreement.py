"""Compares the ranks in every step, before its update; ends all of them, by one error, if they are not one run."""

import hashlib
import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.kernels.philox import Stream
from triptych.models.sharding import sharding_of
from triptych.trainer.parallel.agreement.checksums import checksums
from triptych.trainer.parallel.agreement.verdicts import (
    RELATIVE_TOLERANCE,
    Standing,
    different_facts,
    disagreement,
    not_finite,
    odd_ones,
)
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.watch.obituary import Diverged
from triptych.trainer.parallel.watch.ring import WatchConfig
from triptych.trainer.seams import LossTerms, Objective, Targets
from triptych.trainer.state import TrainState

TEXT_BYTES = 4096


@dataclass(kw_only=True, slots=True, frozen=True)
class Agreed:
    """What all ranks say of a step, the same values on every one. loss: None if the step reports none. not_finite:
    whose loss or norm is not, None if all are. busy_seconds: of each rank.
    """

    loss: float | None
    gradient_norm: float
    not_finite: str | None
    busy_seconds: list[float]


class Agreement:
    """Called by the loop in each step. It costs one all-reduce of a dozen numbers and one for each rank; only when they
    differ does every rank learn what the others have. With one process there is nothing to compare.
    """

    def __init__(self, config: WatchConfig, groups: Groups) -> None:
        self._every = config.parameters_every_steps
        self._groups = groups
        self._sound = torch.ones((), dtype=torch.bool, device=groups.device)
        self.labels = [f"rank 0 ({socket.gethostname()})"] if self._alone else _labels(groups)

    def listening(self, objective: Objective) -> Objective:
        """The objective, overheard: whether this rank's own losses are finite can be known only before they are
        reduced. Nothing waits for the device.
        """
        return objective if self._alone else _Overheard(objective, self._sound)

    def compare(
        self,
        *,
        step: int,
        tokens: int,
        cursor: Mapping[str, int],
        loss: float | None,
        gradient_norm: float,
        busy_seconds: float = 0.0,
    ) -> Agreed:
        """Where all ranks stand once the step's gradient is known. Collective. Diverged, with the same text on every
        rank, if they differ in what must be equal.
        """
        standing = Standing(
            step=step,
            tokens=tokens,
            cursor=_digest(json.dumps(dict(cursor), sort_keys=True)),
            loss=loss,
            gradient_norm=gradient_norm,
            sound=bool(self._sound),
        )
        self._sound.fill_(True)
        if self._alone:
            return _agreed(standing, [standing], self.labels, [busy_seconds])
        found, everyones_busy_seconds = _everywhere(standing, busy_seconds, self._groups)
        if found is not None:
            return _agreed(found, [], self.labels, everyones_busy_seconds)
        standings = [Standing(**json.loads(text)) for text in _everyones(_as_json(standing), self._groups)]
        # Without a verdict the quick comparison was stricter than the exact one, which decides.
        if (verdict := disagreement(standings, self.labels)) is not None:
            raise Diverged(verdict)
        return _agreed(standings[0], standings, self.labels, everyones_busy_seconds)

    def check_parameters(self, state: TrainState) -> None:
        """Collective, when a comparison is due. Diverged, with the same text on every rank, if replicas differ."""
        if not self._alone and self._every and state.step % self._every == 0:
            require_equal_parameters(state.engine.named_parameters(), state.step, self._groups, self.labels)

    @property
    def _alone(self) -> bool:
        return self._groups.placement.world_size == 1


def _agreed(of: Standing, standings: Sequence[Standing], labels: Sequence[str], busy_seconds: list[float]) -> Agreed:
    """standings: everyone's, none where all are known to be finite."""
    return Agreed(
        loss=of.loss,
        gradient_norm=of.gradient_norm,
        not_finite=not_finite(standings, labels) if standings else None,
        busy_seconds=busy_seconds,
    )


class _Overheard:
    """An objective whose losses are looked at."""

    def __init__(self, objective: Objective, sound: Tensor) -> None:
        self._objective, self._sound = objective, sound

    def prepare(self, batch: Any, stream: Stream) -> tuple[Any, Targets]:
        return self._objective.prepare(batch, stream)

    def loss(self, outputs: Any, targets: Any) -> LossTerms:
        terms = self._objective.loss(outputs, targets)
        self._sound &= terms.sum.detach().isfinite()
        return terms


def require_same(facts: Mapping[str, str], groups: Groups) -> None:
    """Collective. ValueError, the same on every rank, that names who differs in a fact: settings, code, versions."""
    if groups.placement.world_size == 1:
        return
    digest = torch.tensor(_digest(json.dumps(dict(facts))), dtype=torch.int64, device=groups.device)
    if not _equal(digest.view(1), None).item():
        everyones = [json.loads(text) for text in _everyones(json.dumps(dict(facts)), groups)]
        verdict = different_facts(everyones, _labels(groups))
        assert verdict is not None, "digests differ, facts do not"
        raise ValueError(verdict)


def require_equal_parameters(
    named: Iterable[tuple[str, nn.Parameter]], step: int, groups: Groups, labels: Sequence[str]
) -> None:
    """Collective. Diverged, the same on every rank, unless replicas are bit-equal: every parameter over the data
    parallel ranks, one that is not sharded also over the tensor parallel ranks. labels: of all ranks.
    """
    parameters = dict(named)
    sums = checksums(parameters.values())
    whole = torch.tensor([sharding_of(p).dim is None for p in parameters.values()], device=sums.device)
    verdict = None
    for group, compared in ((groups.collection.dp, torch.ones_like(whole)), (groups.collection.tp, whole)):
        if group.size() == 1:
            continue
        differs = ~_equal(sums, group) & compared
        if differs.any():
            first = int(differs.nonzero()[0])
            everyones = [torch.empty_like(sums) for _ in range(group.size())]
            dist.all_gather(everyones, sums, group=group)
            members = [labels[rank] for rank in dist.get_process_group_ranks(group)]
            values = [f"{int(each[first]) & (2**64 - 1):016x}" for each in everyones]
            found = odd_ones(f"the checksum of {list(parameters)[first]}", values, members)
            verdict = verdict or f"replicas differ after step {step}: {found}"
    _raise_everywhere(verdict, groups)


def _raise_everywhere(verdict: str | None, groups: Groups) -> None:
    """Diverged on all ranks, with the text of the first that has one."""
    if not groups.any_rank(verdict is not None):
        return
    found = next(text for text in _everyones(verdict or "", groups) if text)
    raise Diverged(found)


def _everywhere(standing: Standing, busy_seconds: float, groups: Groups) -> tuple[Standing | None, list[float]]:
    """Numbers that stand for all ranks', if theirs are equal and finite, and every rank's busy seconds; the same answer
    on every rank: one all-reduce of the largest of each number and of its negative. fp64 holds the integers exactly.
    """
    exact = [float(standing.step), float(standing.tokens), float(standing.cursor)]
    # A rank that reports no loss says minus infinity twice, which the largest of all leaves out.
    floats = [-math.inf if standing.loss is None else standing.loss, standing.gradient_norm]
    negatives = [-math.inf if standing.loss is None else -standing.loss, -standing.gradient_norm]
    sound = standing.sound and math.isfinite(standing.loss or 0.0) and math.isfinite(standing.gradient_norm)
    if not sound:  # what a reduction makes of not-a-number is nobody's promise
        floats = negatives = [0.0, 0.0]
    busy = [0.0] * groups.placement.world_size
    busy[groups.placement.rank] = busy_seconds
    row = [*exact, *floats, *(-value for value in exact), *negatives, float(not sound), *busy]
    largest = torch.tensor(row, dtype=torch.float64, device=groups.device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    highs, lows, unsound, busy = _parts(largest.tolist())
    if unsound or highs[:3] != lows[:3]:
        return None, busy
    loss_and_norm = zip(highs[3:], lows[3:], strict=True)
    if not all(high == -math.inf or math.isclose(high, low, rel_tol=RELATIVE_TOLERANCE) for high, low in loss_and_norm):
        return None, busy
    step, tokens, cursor = (int(value) for value in highs[:3])
    loss = None if highs[3] == -math.inf else highs[3]
    return Standing(step=step, tokens=tokens, cursor=cursor, loss=loss, gradient_norm=highs[4]), busy


def _parts(values: list[float]) -> tuple[list[float], list[float], bool, list[float]]:
    """Largest, smallest, whether any rank is unsound, busy seconds."""
    return values[:5], [-value for value in values[5:10]], bool(values[10]), values[11:]


def _equal(values_N: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """bool [N]: which int64 values are equal over a group. ~x is largest where x is smallest, without overflow."""
    extremes = torch.stack([values_N, ~values_N])
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX, group=group)
    return extremes[0] == ~extremes[1]


def _labels(groups: Groups) -> list[str]:
    """ "rank 3 (node7)" for every rank. Collective."""
    return [f"rank {rank} ({host})" for rank, host in enumerate(_everyones(socket.gethostname(), groups))]


def _everyones(text: str, groups: Groups) -> list[str]:
    """Every rank's text, by rank. Collective; only after something went wrong."""
    content = text.encode()
    assert len(content) <= TEXT_BYTES, "too long to exchange"
    mine = torch.zeros(TEXT_BYTES, dtype=torch.uint8)
    mine[: len(content)] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]
    mine = mine.to(groups.device)
    everyones = [torch.empty_like(mine) for _ in range(groups.placement.world_size)]
    dist.all_gather(everyones, mine)
    return [bytes(each.tolist()).rstrip(b"\0").decode() for each in everyones]


def _as_json(standing: Standing) -> str:
    return json.dumps({name: getattr(standing, name) for name in Standing.__dataclass_fields__})


def _digest(text: str) -> int:
    """48 bits, which fp64 holds exactly."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
