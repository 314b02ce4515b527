"""Compares the ranks after every step; ends all of them, by one error, when they are no longer one run."""

import hashlib
import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from triptych.kernels.philox import Stream
from triptych.models.sharding import sharding_of
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.agreement.checksums import checksums
from triptych.trainer.parallel.agreement.verdicts import (
    RELATIVE_TOLERANCE,
    Standing,
    different_facts,
    disagreement,
    odd_ones,
)
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.parallel.watch.obituary import Diverged
from triptych.trainer.parallel.watch.ring import WatchConfig
from triptych.trainer.seams import LossTerms, Objective, Targets
from triptych.trainer.state import TrainState

TEXT_BYTES = 4096


class Agreement:
    """Called by the loop after each step. It costs one all-reduce of a dozen numbers; only when they differ does every
    rank learn what the others have. With one process there is nothing to compare.
    """

    def __init__(self, config: WatchConfig, groups: Groups) -> None:
        self._every = config.parameters_every_steps
        self._groups = groups
        self._sound = torch.ones((), dtype=torch.bool, device=groups.device)
        self._labels = [] if self._alone else _labels(groups)

    def listening(self, objective: Objective) -> Objective:
        """The objective, overheard: whether this rank's own losses are finite can be known only before they are
        reduced. Nothing waits for the device.
        """
        return objective if self._alone else _Overheard(objective, self._sound)

    def check(self, record: StepRecord, state: TrainState) -> None:
        """Collective. Diverged, with the same text on every rank, if the ranks differ in what must be equal, or a loss
        or gradient norm is not finite.
        """
        if self._alone:
            return
        standing = Standing(
            step=record.step,
            tokens=record.tokens,
            cursor=_digest(json.dumps(dict(state.cursor), sort_keys=True)),
            loss=record.metrics.get("loss"),
            gradient_norm=record.gradient_norm,
            sound=bool(self._sound),
        )
        if not _agree(standing, self._groups):
            standings = [Standing(**json.loads(text)) for text in _everyones(_as_json(standing), self._groups)]
            # Without a verdict the quick comparison was stricter than the exact one, which decides.
            if (verdict := disagreement(standings, self._labels)) is not None:
                raise Diverged(verdict)
        if self._every and record.step % self._every == 0:
            require_equal_parameters(state.engine.named_parameters(), record.step, self._groups, self._labels)

    @property
    def _alone(self) -> bool:
        return self._groups.placement.world_size == 1


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


def _agree(standing: Standing, groups: Groups) -> bool:
    """Whether all ranks' numbers are equal and finite, the same answer on every rank: one all-reduce of the largest of
    each number and of its negative. fp64 holds the integers exactly.
    """
    exact = [float(standing.step), float(standing.tokens), float(standing.cursor)]
    # A rank that reports no loss says minus infinity twice, which the largest of all leaves out.
    floats = [-math.inf if standing.loss is None else standing.loss, standing.gradient_norm]
    negatives = [-math.inf if standing.loss is None else -standing.loss, -standing.gradient_norm]
    sound = standing.sound and math.isfinite(standing.loss or 0.0) and math.isfinite(standing.gradient_norm)
    if not sound:  # what a reduction makes of not-a-number is nobody's promise
        floats = negatives = [0.0, 0.0]
    rows = [[*exact, *floats, float(not sound)], [*(-value for value in exact), *negatives, 0.0]]
    extremes = torch.tensor(rows, dtype=torch.float64, device=groups.device)
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highs, lows = extremes[0].tolist(), (-extremes[1]).tolist()
    if highs[5] or highs[:3] != lows[:3]:
        return False
    loss_and_norm = zip(highs[3:5], lows[3:5], strict=True)
    return all(high == -math.inf or math.isclose(high, low, rel_tol=RELATIVE_TOLERANCE) for high, low in loss_and_norm)


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
