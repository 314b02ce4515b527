"""What is measured, and in which order: the goals first, for a lent machine's minutes end."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Direction = Literal["forward", "backward"]
Kind = Literal["compile", "ceiling", "time", "error", "weights", "instructions"]
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")

BACKWARD_FACTOR = 2.5
"""Five matrix products for the forward pass's two, as flash-attention counts; kernels that make two of them again are
not credited.
"""
CONVENTION = "forward 4 B H S^2 D operations, half of it for causal, backward 2.5 times the forward"
NOT_REACHED = "not reached: time was up"


@dataclass(kw_only=True, slots=True, frozen=True)
class Shape:
    """One attention call: `length` queries and keys in each of `batch` rows."""

    batch: int
    length: int
    num_heads: int
    head_dim: int
    causal: bool = False
    dtype: str = "bfloat16"

    def operations(self, direction: Direction) -> float:
        """Floating-point operations by CONVENTION."""
        full = 4.0 * self.batch * self.num_heads * self.length**2 * self.head_dim
        forward = full / 2 if self.causal else full
        return forward * (BACKWARD_FACTOR if direction == "backward" else 1.0)

    @property
    def label(self) -> str:
        """Such as `full, 1 x 16384, 16 x 128, bfloat16`."""
        mask = "causal" if self.causal else "full"
        return f"{mask}, {self.batch} x {self.length}, {self.num_heads} x {self.head_dim}, {self.dtype}"


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """One measurement. compile: nothing; a small call leaves a kernel in triton's cache on disk. ceiling: a large
    matrix product. time: of a contender. error: of its output and gradients. weights: of each of its P at `num_keys`
    keys. instructions: of the hardware's approximations.

    round: the contenders of a shape take turns, so that a drift of the clock meets all of them.
    """

    kind: Kind
    contender: str = ""
    shape: Shape | None = None
    direction: Direction = "forward"
    round: int = 0
    num_keys: int = 0

    @property
    def label(self) -> str:
        parts = [self.kind, self.contender, self.shape.label if self.shape else ""]
        parts += [self.direction if self.kind == "time" else "", f"{self.num_keys} keys" if self.num_keys else ""]
        return " | ".join(part for part in parts if part)

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of_mapping(cls, mapping: dict[str, Any]) -> "Job":
        """Of what `to_mapping` gave."""
        shape = mapping["shape"]
        return cls(**{**mapping, "shape": None if shape is None else Shape(**shape)})


@dataclass(kw_only=True, slots=True, frozen=True)
class Grid:
    """The shapes of a device: `tokens` positions in a batch where a row is no longer, and heads that fill `hidden`.

    ours: kernels of this package, which are also checked. peers: those they are measured against. num_compilers:
    processes that compile our kernels side by side before anything is measured; 0 where nothing is compiled.
    """

    ours: tuple[str, ...]
    peers: tuple[str, ...]
    lengths: tuple[int, ...]
    head_dims: tuple[int, ...]
    tokens: int
    hidden: int
    dtype: str
    num_rounds: int
    weights_at: tuple[int, ...]
    checks_instructions: bool
    num_compilers: int

    @property
    def goal_shape(self) -> Shape:
        """Full attention, head dimension 128 where there is one, at the batch's own length where there is one."""
        head_dim = 128 if 128 in self.head_dims else self.head_dims[0]
        length = self.tokens if self.tokens in self.lengths else max(self.lengths)
        return self.shape(length, head_dim, causal=False)

    def shape(self, length: int, head_dim: int, *, causal: bool) -> Shape:
        return Shape(
            batch=max(1, self.tokens // length),
            length=length,
            num_heads=max(1, self.hidden // head_dim),
            head_dim=head_dim,
            causal=causal,
            dtype=self.dtype,
        )

    def compilations(self) -> list[Job]:
        """A small call of each kernel that the jobs need, in their order."""
        small = dict.fromkeys(
            replace(shape, batch=2, length=min(1024, shape.length))
            for shape in sorted(self._shapes(), key=self._distance)
        )
        return [Job(kind="compile", contender=name, shape=shape) for shape in small for name in self.ours]

    def jobs(self) -> list[Job]:
        """All of them, the most important first: the goals' shape with its errors, then the weights, then the rest by
        its distance from the goals' shape. FlexAttention is compiled for tens of seconds a shape, so it comes last.
        """
        goal = self.goal_shape
        first = [Job(kind="ceiling"), *self._timed(goal, self.num_rounds, [*self.ours, *self.peers])]
        first += [Job(kind="ceiling", round=1)]  # a machine that others use too may have been slow the first time
        first += [Job(kind="error", contender=name, shape=goal) for name in self.ours]
        first += [Job(kind="instructions")] if self.checks_instructions else []
        first += [Job(kind="weights", contender=name, num_keys=n) for n in self.weights_at for name in self.ours]
        quick = [name for name in self.peers if name != "flex sigmoid"]
        others = sorted((shape for shape in self._shapes() if shape != goal), key=self._distance)
        rest = [job for shape in others for job in self._of(shape, [*self.ours, *quick])]
        if "flex sigmoid" in self.peers:
            rest += [job for shape in others for job in self._timed(shape, 1, ["flex sigmoid"])]
        return [*first, *rest]

    def _of(self, shape: Shape, contenders: Iterable[str]) -> Iterator[Job]:
        yield from self._timed(shape, max(1, self.num_rounds // 2), contenders)
        for name in self.ours:
            yield Job(kind="error", contender=name, shape=shape)

    def _timed(self, shape: Shape, num_rounds: int, contenders: Iterable[str]) -> list[Job]:
        return [
            Job(kind="time", contender=name, shape=shape, direction=direction, round=number)
            for direction in DIRECTIONS
            for number in range(num_rounds)
            for name in contenders
        ]

    def _shapes(self) -> Iterator[Shape]:
        for head_dim in self.head_dims:
            for length in self.lengths:
                for causal in (False, True):
                    yield self.shape(length, head_dim, causal=causal)

    def _distance(self, shape: Shape) -> tuple[int, int]:
        """In how many ways it differs from the goals' shape; then the quicker one first."""
        goal = self.goal_shape
        differs = (shape.causal != goal.causal) + (shape.head_dim != goal.head_dim) + (shape.length != goal.length)
        return differs, shape.batch * shape.length**2


GRIDS = {
    "cuda": Grid(
        ours=("triton", "gluon", "triton tanh"),
        peers=("sdpa flash", "sdpa cudnn", "sdpa math", "flex sigmoid", "eager sigmoid"),
        lengths=(1024, 4096, 16384, 65536),
        head_dims=(64, 128, 256),
        tokens=16384,
        hidden=2048,
        dtype="bfloat16",
        num_rounds=3,
        weights_at=(1024, 16384, 131072),
        checks_instructions=True,
        num_compilers=16,
    ),
    "cpu": Grid(
        ours=("blocked",),
        peers=("sdpa", "eager sigmoid"),
        lengths=(256, 1024, 2048),
        head_dims=(64, 128),
        tokens=2048,
        hidden=256,
        dtype="float32",
        num_rounds=5,
        weights_at=(1024, 16384, 131072),
        checks_instructions=False,
        num_compilers=0,
    ),
}
"""By device. Batch times length is 16,384 on a GPU and the hidden size 2048, as flash-attention's and triton-sigmoid's
figures have it.
"""
