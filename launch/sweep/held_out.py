"""`python -m triptych.launch.sweep.held_out FOLDER`: held-out bounds of a sweep's points, per modality and checkpoint.

Points that differ in mixture or noise schedule differ in what their training loss means, and a schedule's weights make
some losses far noisier than others. Here all are judged alike: on the validation split, under the linear schedule, with
noise that never changes. Written beside the sweep's own: held_out.csv, held_out.md, held_out.png.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
from rich.console import Console

from triptych.configs.digits_evaluation import held_out_metrics
from triptych.configs.token_data import load_tokenizers
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.launch.report.numbers import fixed
from triptych.launch.sweep.figures import COLOURS
from triptych.launch.sweep.folder import SweepFolder
from triptych.trainer.checkpoint.disk.document import read_document
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import Groups, process_groups
from triptych.trainer.parallel.placement import Placement

CSV, TABLE, FIGURE = "held_out.csv", "held_out.md", "held_out.png"
_COLUMNS = ("point", "group", "tokens", *MODALITIES)


@dataclass(kw_only=True, slots=True, frozen=True)
class Bounds:
    """Of one checkpoint: nats per token of each modality."""

    point: str
    group: str
    tokens: int
    nats: Mapping[Modality, float]


def judge(folder: Path, groups: Groups) -> Iterator[Bounds]:
    """Every checkpoint of every point that was trained to its end; what is in held_out.csv is not judged again."""
    place = SweepFolder(folder=folder)
    known = {(bounds.point, bounds.tokens): bounds for bounds in read_bounds(folder / CSV)}
    for name, point in place.read().points.items():
        directory = place.point(name).run
        if not directory.settings.exists():
            continue
        run = directory.read()
        if not place.point(name).is_trained(run.fit.total_tokens):
            continue
        tokenizers = load_tokenizers(run.data_folder)
        mixture = run.build_mixture(tokenizers, "validation")
        objective = MaskedDiffusion(MaskedDiffusionConfig(), run.model.vocabulary)
        model = run.build_model(groups)
        for checkpoint in complete_checkpoints(directory.checkpoints):
            tokens = read_document(checkpoint).header.tokens
            if (name, tokens) in known:
                yield known[name, tokens]
                continue
            model.load_state_dict(read_part(checkpoint, "weights"), strict=False)
            nats: dict[Modality, float] = {
                modality: held_out_metrics(modality, run, model, objective, mixture, groups.device)[
                    f"nelbo/{modality}"
                ].mean
                for modality in MODALITIES
            }
            yield Bounds(point=name, group=point.group, tokens=tokens, nats=nats)


def read_bounds(path: Path) -> list[Bounds]:
    """What was judged before; nothing if the file is not there."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Bounds(
                point=row["point"],
                group=row["group"],
                tokens=int(row["tokens"]),
                nats={modality: float(row[modality]) for modality in MODALITIES},
            )
            for row in csv.DictReader(file)
        ]


def write_bounds(path: Path, found: Sequence[Bounds]) -> None:
    """A row per checkpoint."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for bounds in found:
            nats = (f"{bounds.nats[modality]:.5f}" for modality in MODALITIES)
            rows.writerow([bounds.point, bounds.group, bounds.tokens, *nats])


def table(found: Sequence[Bounds]) -> str:
    """Markdown: each group's last checkpoints, mean and spread over its seeds; the lowest of a column is bold."""
    last = _last(found)
    means = {group: {m: fmean(b.nats[m] for b in members) for m in MODALITIES} for group, members in last.items()}
    lines = [f"| group | {' | '.join(MODALITIES)} | seeds |", "|---|" + "---:|" * (len(MODALITIES) + 1)]
    for group, members in last.items():
        cells = []
        for modality in MODALITIES:
            values = [bounds.nats[modality] for bounds in members]
            text = fixed(means[group][modality], 3)
            text += f" ± {fixed(stdev(values), 3)}" if len(values) > 1 else ""
            best = means[group][modality] == min(mean[modality] for mean in means.values())
            cells.append(f"**{text}**" if best else text)
        lines.append(f"| {group} | {' | '.join(cells)} | {len(members)} |")
    return "\n".join(lines) + "\n"


def draw(found: Sequence[Bounds], target: Path) -> None:
    """A panel per modality: bound over tokens, a line per group, the mean of its seeds."""
    figure, panels = plt.subplots(1, len(MODALITIES), figsize=(14, 5.5), layout="constrained")
    curves: dict[str, dict[int, list[Bounds]]] = defaultdict(lambda: defaultdict(list))
    for bounds in found:
        curves[bounds.group][round(bounds.tokens, -4)].append(bounds)
    for panel, modality in zip(panels, MODALITIES, strict=True):
        for number, (group, points) in enumerate(curves.items()):
            tokens = sorted(points)
            means = [fmean(bounds.nats[modality] for bounds in points[at]) for at in tokens]
            style = ("-", "--", ":")[number // len(COLOURS) % 3]
            panel.plot(tokens, means, style, marker=".", color=COLOURS[number % len(COLOURS)], label=group)
        panel.set(title=modality, xlabel="tokens")
    panels[0].set_ylabel("held-out bound, nats per token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    figure.savefig(target, dpi=120, facecolor="white")
    plt.close(figure)


def _last(found: Sequence[Bounds]) -> dict[str, list[Bounds]]:
    newest: dict[str, Bounds] = {}
    for bounds in found:
        if bounds.point not in newest or newest[bounds.point].tokens < bounds.tokens:
            newest[bounds.point] = bounds
    groups: dict[str, list[Bounds]] = defaultdict(list)
    for bounds in newest.values():
        groups[bounds.group].append(bounds)
    return groups


def main() -> None:
    """Judge a sweep's folder; what was judged before stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where `triptych sweep` has written")
    folder: Path = parser.parse_args().folder
    console = Console(highlight=False)
    found: list[Bounds] = []
    with process_groups(Placement()) as groups:
        for bounds in judge(folder, groups):
            found.append(bounds)
            write_bounds(folder / CSV, found)
            nats = "  ".join(f"{modality} {fixed(bounds.nats[modality], 3)}" for modality in MODALITIES)
            console.print(f"{bounds.point} at {bounds.tokens:,}: {nats}")
    (folder / TABLE).write_text(table(found), encoding="utf-8")
    draw(found, folder / FIGURE)


if __name__ == "__main__":
    main()
