"""A run's directory: what was run, where it stands, what came out.

run.yaml   code.diff   code/   checkpoints/   logs/rank0.jsonl   tensorboard/   dumps/   finished   report.html
report.json   slurm/
"""

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from triptych.configs.registry import named_run
from triptych.configs.tree import from_mapping, to_mapping
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.slurm.code_copy import copied_commit, copy_code
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.loading import newest_checkpoint

_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(kw_only=True, slots=True, frozen=True)
class RunDirectory:
    """Paths under a run's folder. may_hold_start: whether a run that was prepared here, or has ended before its first
    checkpoint, may be begun (again).
    """

    folder: Path
    may_hold_start: bool = False

    @property
    def settings(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    def log(self, rank: int) -> Path:
        return self.folder / "logs" / f"rank{rank}.jsonl"

    @property
    def code(self) -> Path:
        """The code that the run was started with; first on PYTHONPATH, it is what `import triptych` finds."""
        return self.folder / "code"

    @property
    def dumps(self) -> Path:
        """What torch's flight recorder and debuggers write when a run hangs."""
        return self.folder / "dumps"

    @property
    def finished(self) -> Path:
        """A file that is there once the run has come to its last token; it holds their number."""
        return self.folder / "finished"

    def start(self, run: TrimodalRun, command: str) -> None:
        """Write what is about to run, and a copy of its code. ValueError if the folder already holds a run."""
        if self.may_hold_start and self.settings.exists():
            return
        self.require_unused()
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {"command": command, "version": version("triptych"), "commit": commit(), "run": to_mapping(run)}
        replace_file(self.folder / "code.diff", _diff())
        if not self.code.exists():
            self.copy_code()
        replace_file(self.settings, yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode())

    def copy_code(self) -> None:
        """Keep the code as it is now. OSError if the disk refuses; nothing is left then."""
        copy_code(_REPOSITORY, self.code, commit())

    def note_end(self, tokens: int, *, stopped: bool) -> None:
        """Keep that the run has come to its end at `tokens`, or, if it was stopped, that it has not."""
        if stopped:
            self.finished.unlink(missing_ok=True)
        else:
            replace_file(self.finished, f"{tokens}\n".encode())

    @property
    def can_resume(self) -> bool:
        """Whether there is a run, and a checkpoint to go on from."""
        return self.settings.exists() and bool(complete_checkpoints(self.checkpoints))

    def require_unused(self) -> None:
        """ValueError if the folder already holds a run."""
        if self.settings.exists():
            raise ValueError(
                f"{self.folder} already holds a run; add --resume to go on with it, or choose another --run-dir"
            )

    def read(self) -> TrimodalRun:
        """The run that was started here. ValueError if there is none or it is damaged."""
        try:
            document = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
            settings = document["run"]
            kind = type(named_run(settings["name"]))
        except FileNotFoundError:
            raise ValueError(f"{self.folder} holds no run (no run.yaml); name the directory of a run") from None
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.settings} is damaged ({' '.join(str(error).split())}); restore it") from None
        return from_mapping(kind, settings, origin=str(self.settings))

    def newest_checkpoint(self, part: str = "weights") -> Path:
        """The newest checkpoint of which a part is sound; a damaged one is passed over, which is said. ValueError if
        there is none.
        """
        return newest_checkpoint(self.checkpoints, part, warn=_warn)

    @property
    def heartbeats(self) -> Path:
        """A small file per rank that says where it is, or was last."""
        return self.folder / "heartbeats"

    @property
    def predictions(self) -> Path:
        """What was expected of the run, if anything was: JSON, name of a scalar to number."""
        return self.folder / "predictions.json"

    @property
    def postmortem(self) -> Path:
        """The page that `triptych postmortem` writes."""
        return self.folder / "postmortem.html"


def _warn(line: str) -> None:
    print(f"triptych: warning: {line}", file=sys.stderr)


def commit() -> str:
    """The commit of the code that runs, "+" after it if changed since; "unknown" outside a checkout."""
    copied = copied_commit(_REPOSITORY)
    if copied is not None:
        return copied
    found = _git("rev-parse", "HEAD").strip()
    if not found:
        return "unknown"
    return f"{found}+" if _git("status", "--porcelain", "--untracked-files=no").strip() else found


def _diff() -> bytes:
    """What the code that runs has changed since its commit."""
    if copied_commit(_REPOSITORY) is None:
        return _git("diff", "HEAD").encode()
    kept = _REPOSITORY.parent.parent / "code.diff"  # a run directory's, beside its copy of the code
    return kept.read_bytes() if kept.exists() else b""


def _git(*arguments: str) -> str:
    """What git says of the checkout that this file is in; empty where there is none."""
    if not (_REPOSITORY / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "-C", str(_REPOSITORY), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
