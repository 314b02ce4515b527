"""How hyper-parameters follow the batch, the number of tokens and the model's shape. Pure: numbers in, numbers out.

**Batch.** Where gradient noise dominates, AdamW follows a stochastic differential equation whose time is k eta^2 after
k steps (Malladi et al. 2022, arXiv 2205.10287). A batch kappa times as large has 1/sqrt(kappa) of the noise and 1/kappa
of the steps; the equation stays the same under

    lr sqrt(kappa),  beta^kappa,  epsilon / sqrt(kappa),  coupled decay sqrt(kappa),  independent decay kappa

which keeps (1 - beta) / lr^2, noise * lr and epsilon * lr, to first order in kappa (1 - beta). Malladi et al. write
1 - kappa (1 - beta); beta^kappa (arXiv 2602.21472) agrees to that order and stays inside (0, 1). The model's average
follows with decay^kappa (Busbridge et al. 2023, arXiv 2307.13813).

**Tokens.** kappa = (B / B_base) (D_base / D)^gamma: the tri-modal paper fits gamma = 0.44 (arXiv 2602.21472, for its
cosine, data and shapes; fit it to yours), Complete(d)P derives gamma = 1 (arXiv 2512.22382).

**Shape.** Complete(d)P's multipliers per kind of parameter, below. A weight decay is *coupled* as in PyTorch, p -= lr *
(update + decay * p), or *independent*, p -= (lr / peak lr) * decay * p.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from triptych.models.parameterization import VECTORS, ParameterKind, ShapeRatio

BetaForm = Literal["power", "linear"]
"""beta^kappa, or 1 - kappa (1 - beta)."""

DecayForm = Literal["coupled", "independent"]

PAPER_GAMMA = 0.44
COMPLETED_P_GAMMA = 1.0

ROUNDING = 1e-9
"""How near a limit counts as on it: 10 is 1 / (1 - 0.9), which floating point puts a little above."""


@dataclass(kw_only=True, slots=True, frozen=True)
class AdamWValues:
    """What AdamW is given. learning_rate: at the peak of the schedule."""

    learning_rate: float
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float


@dataclass(kw_only=True, slots=True, frozen=True)
class RMSPropValues:
    """What RMSProp is given; `alpha` is torch's name for the decay of the second moment. torch adds the decay times the
    weights to the gradient.
    """

    learning_rate: float
    alpha: float
    epsilon: float
    weight_decay: float = 0.0


@dataclass(kw_only=True, slots=True, frozen=True)
class SGDValues:
    """What SGD is given."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0


def kappa(*, batch: float, base_batch: float, tokens: float, base_tokens: float, gamma: float) -> float:
    """(B / B_base) (D_base / D)^gamma; 1 at the logical batch. ValueError unless amounts are positive."""
    if min(batch, base_batch, tokens, base_tokens) <= 0:
        raise ValueError("batches and token horizons must be above 0; set them so")
    return batch / base_batch * (base_tokens / tokens) ** gamma


def logical_batch(*, base_batch: float, tokens: float, base_tokens: float, gamma: float) -> float:
    """B_base (D / D_base)^gamma: the batch at which kappa is 1, in the unit of `base_batch`."""
    return base_batch * (tokens / base_tokens) ** gamma


def scale_beta(beta: float, factor: float, form: BetaForm = "power") -> float:
    """A moment's decay at `factor` times the batch. ValueError where the linear form leaves (0, 1).

    0, no moment at all, stays 0 in both forms.
    """
    if form == "power" or beta == 0:
        return beta**factor
    scaled = 1 - factor * (1 - beta)
    if scaled < ROUNDING:
        raise ValueError(
            f"beta {beta:g} has no linear form at {factor:g} times the batch, only below {1 / (1 - beta):g} times; "
            "lower fit.physical_batch, or set fit.scaling.betas=power"
        )
    return scaled


def unscale_beta(beta: float, factor: float, form: BetaForm = "power") -> float:
    """Inverse of `scale_beta`."""
    return scale_beta(beta, 1 / factor, form)


def scale_adamw(
    values: AdamWValues, factor: float, *, betas: BetaForm = "power", decay: DecayForm = "coupled"
) -> AdamWValues:
    """AdamW at `factor` times the batch (Malladi et al. 2022, square-root scaling rule; decay: arXiv 2512.22382)."""
    root = math.sqrt(factor)
    first, second = (scale_beta(beta, factor, betas) for beta in values.betas)
    return AdamWValues(
        learning_rate=values.learning_rate * root,
        betas=(first, second),
        epsilon=values.epsilon / root,
        weight_decay=values.weight_decay * (root if decay == "coupled" else factor),
    )


def unscale_adamw(
    values: AdamWValues, factor: float, *, betas: BetaForm = "power", decay: DecayForm = "coupled"
) -> AdamWValues:
    """Inverse of `scale_adamw`: the values at a batch `factor` times smaller."""
    return scale_adamw(values, 1 / factor, betas=betas, decay=decay)


def scale_rmsprop(values: RMSPropValues, factor: float, *, betas: BetaForm = "power") -> RMSPropValues:
    """RMSProp at `factor` times the batch: AdamW's rule without a first moment (Malladi et al. 2022).

    Its decay stays: added to the gradient it is a term of the loss, which no batch changes.
    """
    root = math.sqrt(factor)
    return replace(
        values,
        learning_rate=values.learning_rate * root,
        alpha=scale_beta(values.alpha, factor, betas),
        epsilon=values.epsilon / root,
    )


def scale_sgd(values: SGDValues, factor: float) -> SGDValues:
    """SGD at `factor` times the batch: the linear rule, lr * kappa, momentum and coupled decay unchanged (Goyal et al.
    2017, arXiv 1706.02677; the momentum left alone is their practice, not derived).
    """
    return replace(values, learning_rate=values.learning_rate * factor)


def scale_ema_decay(decay: float, factor: float) -> float:
    """decay^kappa: the average's decay at `factor` times the batch, or over `factor` logical steps (arXiv 2307.13813).

    In a constant gradient g, `factor` small steps of an average that reads the weights before each update end at this
    plus delta g, delta = -lr (kappa - (1 - rho^kappa) / (1 - rho)), about -lr (1 - rho) kappa (kappa - 1) / 2. Of one
    that reads them after the update: as large to first order, with the other sign.
    """
    return decay**factor


def ema_half_life(decay: float, batch: float) -> float:
    """batch ln 2 / -ln(decay), in the unit of `batch`: what decay^kappa keeps."""
    return batch * math.log(2) / -math.log(decay)


def ema_decay(half_life: float, amount: float) -> float:
    """Decay over `amount` tokens (or samples) of an average with that half-life."""
    return 0.5 ** (amount / half_life)


def coupled_decay(weight_decay: float, learning_rate: float, decay: DecayForm) -> float:
    """The coupled decay that PyTorch is given, for a peak learning rate; 0 where nothing moves."""
    if decay == "coupled":
        return weight_decay
    return weight_decay / learning_rate if learning_rate > 0 else 0.0


@dataclass(kw_only=True, slots=True, frozen=True)
class Multipliers:
    """Factors on one kind of parameter. initial_std: standard deviation at initialisation."""

    learning_rate: float = 1.0
    epsilon: float = 1.0
    weight_decay: float = 1.0
    initial_std: float = 1.0

    def applied(self, values: AdamWValues, decay: DecayForm = "coupled") -> AdamWValues:
        """The values of one kind. An independent decay is a product with the learning rate, so it takes its factor."""
        on_decay = self.weight_decay * (1.0 if decay == "coupled" else self.learning_rate)
        return replace(
            values,
            learning_rate=values.learning_rate * self.learning_rate,
            epsilon=values.epsilon * self.epsilon,
            weight_decay=values.weight_decay * on_decay,
        )


def completed_p(kind: ParameterKind, ratio: ShapeRatio) -> Multipliers:
    """Complete(d)P's multipliers (arXiv 2512.22382; its table as three independent readers give it).

    The forward pass does its part elsewhere: residual branches times m_L^-alpha. Norm gains and other vectors do not
    decay, so their factor on it is moot. The query and key norms keep epsilon over width, probably because their
    gradient sums over heads. Two entries are our reading: those norms take the depth factors of the layer they are in;
    the final norm's epsilon goes down with width, as by "1 / width for all but the readout", where one reader has 1.
    What the paper has not, each head's bias in sigmoid attention and a residual branch's gain, goes like a norm's gain:
    one element sees one head, or one channel, whose gradient falls with width as theirs does.
    """
    width, depth, alpha = ratio.width, ratio.depth, ratio.depth_exponent
    rate_by_depth, epsilon_by_depth = depth ** (alpha - 1), depth**-alpha
    match kind:
        case "embedding":
            return Multipliers(epsilon=1 / width)
        case "readout":
            return Multipliers(learning_rate=1 / width, weight_decay=width, initial_std=1 / width)
        case "final_norm":
            return Multipliers(epsilon=1 / width)
        case "query_key_norm":
            return Multipliers(learning_rate=rate_by_depth, epsilon=epsilon_by_depth)
        case "norm" | "attention_bias" | "layer_scale" | "vector":
            return Multipliers(learning_rate=rate_by_depth, epsilon=epsilon_by_depth / width)
        case _:
            return Multipliers(
                learning_rate=rate_by_depth / width,
                epsilon=epsilon_by_depth / width,
                weight_decay=width,
                initial_std=width**-0.5,
            )


def decays(kind: ParameterKind) -> bool:
    """Whether weight decay is for this kind: matrices, not gains and biases."""
    return kind not in VECTORS


@dataclass(kw_only=True, slots=True, frozen=True)
class Finding:
    """What a guard has to say, with the change that mends it. Errors must not be trained with."""

    severity: Literal["error", "warning"]
    text: str


def guards(
    values: AdamWValues,
    factor: float,
    *,
    form: BetaForm,
    steps: float,
    minimum_steps: int | None = None,
    ema_decays: tuple[float, ...] = (),
) -> list[Finding]:
    """Where a batch `factor` times the logical one leaves what the rules were derived for.

    steps: optimizer steps of the whole run at this batch. minimum_steps: S_crit, below which the paper's losses rise
    (arXiv 2602.21472; its number is not known to us). ema_decays: per logical step.
    """
    findings = []
    for name, beta in zip(("beta1", "beta2"), values.betas, strict=True):
        findings += _beta_findings(name, beta, factor, form)
    for decay in ema_decays:
        if decay > 0 and decay**factor < 0.5 - ROUNDING:
            most = math.log(2) / -math.log(decay)
            findings.append(_no_average(f"the average's decay {decay:g}^kappa is {decay**factor:.3g}", most))
    if minimum_steps is not None and steps < minimum_steps * (1 - ROUNDING):
        findings.append(
            Finding(
                severity="warning",
                text=f"{math.floor(steps)} steps are under the critical {minimum_steps}: the loss will be above that "
                f"of smaller batches; {_at_most(factor * steps / minimum_steps)}",
            )
        )
    return findings


def most_for_beta(beta: float, form: BetaForm) -> float:
    """The kappa up to which no guard has anything to say of a moment's decay; 1 at least."""
    if beta == 0:
        return math.inf
    return max(1.0, math.log(2) / -math.log(beta) if form == "power" else 0.5 / (1 - beta))


def _beta_findings(name: str, beta: float, factor: float, form: BetaForm) -> list[Finding]:
    """None up to the logical batch, whatever the betas are there."""
    if beta == 0 or factor <= 1:
        return []
    most = most_for_beta(beta, form)
    if form == "power":
        scaled, what = beta**factor, f"{name}^kappa"
    else:
        scaled, what = 1 - factor * (1 - beta), f"1-kappa(1-{name})"
    if form == "linear" and scaled < ROUNDING:
        text = (
            f"kappa {factor:.3g} is not below 1/(1-{name}) = {1 / (1 - beta):g}, where the linear form ends; "
            f"{_at_most(most)} or set fit.scaling.betas=power"
        )
        return [Finding(severity="error", text=text)]
    return [_no_average(f"{what} is {scaled:.3g}", most)] if scaled < 0.5 - ROUNDING else []


def _no_average(what: str, most: float) -> Finding:
    return Finding(
        severity="warning",
        text=f"{what}, under 0.5: a step no longer averages over others, which the rule presumes; {_at_most(most)}",
    )


def _at_most(factor: float) -> str:
    """Three digits, rounded down, so that the batch named is one that mends."""
    unit = 10.0 ** (math.floor(math.log10(factor)) - 2)
    digits = math.floor(factor / unit + ROUNDING) * unit
    return f"lower fit.physical_batch to at most {digits:.6g} times the logical batch"
