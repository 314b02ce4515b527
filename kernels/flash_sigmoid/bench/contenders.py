"""Who is measured: our kernels and their peers, each a function of [B, S, H, D] queries, keys and values.

Shape legend: B rows, S positions, H heads, D head dimension.
"""

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.bench.cases import Shape
from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Sigmoid, minus_log

Call = Callable[[Tensor, Tensor, Tensor, Shape], Tensor]


@dataclass(kw_only=True, slots=True, frozen=True)
class Contender:
    """call: queries, keys, values [B, S, H, D] and the shape to the output [B, S, H, D], differentiable.

    longest: rows longer than this are not tried (the whole matrix of scores is in memory).
    """

    name: str
    function: Literal["sigmoid", "softmax"]
    call: Call
    longest: int | None = None

    def require(self, shape: Shape) -> None:
        """NotImplementedError where the shape is beyond what it is asked to do."""
        if self.longest is not None and shape.length > self.longest:
            raise NotImplementedError(f"holds all scores; not tried beyond {self.longest} positions")


def contender(name: str) -> Contender:
    """KeyError for a name that is none of CONTENDERS."""
    return CONTENDERS[name]


def draw(shape: Shape, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and the output's gradient, standard normal; never zeros, on which chips run faster."""
    generator = torch.Generator(device).manual_seed(seed)
    size = (shape.batch, shape.length, shape.num_heads, shape.head_dim)
    dtype = getattr(torch, shape.dtype)
    query, key, value, grad = (torch.randn(size, generator=generator, device=device).to(dtype) for _ in range(4))
    return query, key, value, grad


def _ours(
    query: Tensor, key: Tensor, value: Tensor, shape: Shape, *, kernel: Kernel, sigmoid: Sigmoid = "accurate"
) -> Tensor:
    band = CAUSAL if shape.causal else Band()
    return sigmoid_attention(query, key, value, band=band, kernel=kernel, sigmoid=sigmoid)


def _softmax(query: Tensor, key: Tensor, value: Tensor, shape: Shape, *, backend: SDPBackend | None = None) -> Tensor:
    q_BHSD, k_BHSD, v_BHSD = (x.transpose(1, 2) for x in (query, key, value))
    with nullcontext() if backend is None else sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD, is_causal=shape.causal).transpose(1, 2)


def _eager(query: Tensor, key: Tensor, value: Tensor, shape: Shape) -> Tensor:
    """The whole matrix of weights, in the inputs' dtype."""
    scores_BHST = torch.einsum("bshd,bthd->bhst", query, key) / math.sqrt(shape.head_dim)
    weights_BHST = (scores_BHST + minus_log(shape.length)).sigmoid()
    if shape.causal:
        weights_BHST = weights_BHST.tril()
    return torch.einsum("bhst,bthd->bshd", weights_BHST, value)


def _flex(query: Tensor, key: Tensor, value: Tensor, shape: Shape) -> Tensor:
    return _compiled_flex(shape, query.device)(query, key, value)


@functools.lru_cache(maxsize=1)
def _compiled_flex(shape: Shape, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Sigma through softmax, exactly: softmax of log sigma, times the sum of sigma, exp of the row's statistic.

    What was compiled for other shapes is forgotten: all of them are one piece of code to torch.compile, which leaves
    code that it has compiled eight times to eager operations, with the whole matrix of scores.
    """
    torch.compiler.reset()
    from torch.nn.attention.flex_attention import AuxRequest, create_block_mask, flex_attention

    bias, length = minus_log(shape.length), shape.length

    def log_sigmoid(score: Tensor, row: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return F.logsigmoid(score + bias)

    def visible(row: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= j

    mask = create_block_mask(visible, None, None, length, length, device=device.type) if shape.causal else None

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        by_head = (x.transpose(1, 2) for x in (query, key, value))
        found = flex_attention(*by_head, score_mod=log_sigmoid, block_mask=mask, return_aux=AuxRequest(lse=True))
        mean_BHSD, rest = found
        assert isinstance(mean_BHSD, Tensor) and not isinstance(rest, Tensor) and rest.lse is not None
        return (mean_BHSD.float() * rest.lse.exp()[..., None]).to(query.dtype).transpose(1, 2)

    # Left to eager operations, flex_attention would hold the whole matrix of scores: better a row that says why.
    return torch.compile(attend, dynamic=False, fullgraph=True)


_ALL = (
    Contender(name="blocked", function="sigmoid", call=functools.partial(_ours, kernel="blocked")),
    Contender(name="triton", function="sigmoid", call=functools.partial(_ours, kernel="triton")),
    Contender(name="gluon", function="sigmoid", call=functools.partial(_ours, kernel="gluon")),
    Contender(name="triton tanh", function="sigmoid", call=functools.partial(_ours, kernel="triton", sigmoid="tanh")),
    Contender(name="sdpa", function="softmax", call=_softmax),
    Contender(
        name="sdpa flash", function="softmax", call=functools.partial(_softmax, backend=SDPBackend.FLASH_ATTENTION)
    ),
    Contender(
        name="sdpa cudnn", function="softmax", call=functools.partial(_softmax, backend=SDPBackend.CUDNN_ATTENTION)
    ),
    Contender(
        name="sdpa math",
        function="softmax",
        call=functools.partial(_softmax, backend=SDPBackend.MATH),
        longest=4096,
    ),
    Contender(name="flex sigmoid", function="sigmoid", call=_flex),
    Contender(name="eager sigmoid", function="sigmoid", call=_eager, longest=4096),
)
CONTENDERS = {each.name: each for each in _ALL}
"""By name. Layout is rows, positions, heads for all of them; SDPA gets transposed views, which its kernels take as they
are.
"""
