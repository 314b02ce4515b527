"""What must be said beside the numbers, whatever the run."""

from triptych.launch.report.numbers import percent
from triptych.trainer.evaluation.proportions import Proportion
from triptych.trainer.evaluation.scores import Scores


def standing_notes(scores: Scores) -> list[str]:
    """Plain sentences on the numbers that were measured; a run's own notes come after them."""
    notes = []
    if scores.judge_image_accuracy is not None:
        notes.append(_judge_note("image", "images", scores.judge_image_accuracy))
    if scores.judge_speech_accuracy is not None:
        notes.append(_judge_note("speech", "recordings", scores.judge_speech_accuracy))
    if any((scores.t2i_accuracy, scores.t2s_accuracy, scores.i2t_accuracy, scores.s2t_accuracy)):
        notes.append(
            "Intervals are Wilson's at 95 %. They cover the luck of the draw in this many trials, "
            "not what another training run would give."
        )
    if scores.text_nelbo_bits_per_byte is not None:
        notes.append(
            "The text number is an upper bound (NELBO) under fixed noise. The unigram counts the model's own tokens "
            "in the training text, with add-one smoothing. gzip adapts to the held-out text alone; primed, it has "
            "also seen the last 32 KiB of the training text."
        )
    return notes


def _judge_note(name: str, items: str, accuracy: Proportion) -> str:
    return (
        f"The {name} judge learnt from real training {items} only, and is itself right on {percent(accuracy.value)} "
        f"of {accuracy.trials} real held-out {items}: its verdicts are no surer than that."
    )
