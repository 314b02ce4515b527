"""How good is a model: judges, scores and the marks to hold them against."""

from triptych.trainer.evaluation.nelbo import Estimate, fixed_noise_metrics
from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.scores import Scores
from triptych.trainer.evaluation.transcripts import character_error, named_digit

__all__ = ["Estimate", "Proportion", "Scores", "character_error", "fixed_noise_metrics", "named_digit"]
