"""A converted folder in an environment that has torch, transformers, safetensors and numpy, and nothing of ours."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from without_us import CONDITIONS, NUM, SEED, outputs

from triptych.launch.run_directory import RunDirectory
from triptych.launch.trained import open_trained

pytest_plugins = ["command_fixtures"]

SCRIPT = Path(__file__).parent / "without_us.py"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    from triptych.launch.cli import main

    folder = tmp_path_factory.mktemp("converted") / "hf"
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(trained), str(folder), "--to", "hf"])
    assert not ended.value.code
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The interpreter of a fresh environment: that of TRIPTYCH_FRESH_PYTHON, or one that is made (minutes)."""
    if "TRIPTYCH_FRESH_PYTHON" in os.environ:
        return os.environ["TRIPTYCH_FRESH_PYTHON"]
    place = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    wanted = [f"{name}=={version(name)}" for name in ("torch", "transformers", "safetensors", "numpy")]
    done = subprocess.run(
        [place / "bin" / "pip", "install", "-q", *wanted], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"an environment cannot be made here: {done.stderr.strip().splitlines()[-1]}")
    return place / "bin" / "python"


def test_the_model_s_own_code_samples_and_decodes_as_we_do(trained, folder):
    """In this process, by the classes that travel."""
    from transformers import AutoTokenizer

    from triptych.models.hugging_face.modeling_triptych import TriptychModel

    model = TriptychModel.from_pretrained(folder)
    found = outputs(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=True))
    assert differences(found, trained) == []


@pytest.mark.slow
def test_an_environment_without_us_gives_the_same(trained, folder, elsewhere, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {**kept, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [elsewhere, "-I", SCRIPT, folder, tmp_path / "out.npz"]
    done = subprocess.run(command, check=False, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert differences(np.load(tmp_path / "out.npz"), trained) == []


def differences(found, trained):
    """Names of what `outputs` makes that is not what this project's own code makes: to the bit; waveforms to 1e-6."""
    with open_trained(RunDirectory(folder=trained), [], SEED) as run:
        expected = {"logits text": whole_logits(run, "text"), **samples(run)}
        tokenizers = run.tokenizers
        expected["texts"] = tokenizers["text"].decode([expected[f"text {i}"] for i in range(NUM)])
        expected["texts"] += [str(tokenizers["text"].encode(["The list holds 3 files."])[0].tolist())]
        for i in range(2):
            expected[f"image {i}"] = tokenizers["image"].decode([found[f"t2i {i}"]])[0]
            expected[f"audio {i}"] = tokenizers["audio"].decode([found[f"t2s {i}"]])[0]
            for modality in ("image", "audio"):
                expected[f"{modality} codes {i}"] = tokenizers[modality].encode([found[f"{modality} {i}"]])[0]
    waveforms = {"audio 0", "audio 1"}
    apart = [name for name in expected.keys() - waveforms if not np.array_equal(found[name], expected[name])]
    return apart + [name for name in waveforms if not np.allclose(found[name], expected[name], rtol=0, atol=1e-6)]


def samples(run):
    """Codes of every task, by task and number."""
    made = {}
    for task, conditions in CONDITIONS.items():
        given = [np.array(codes, np.int64) for codes in conditions]
        if task == "text":
            many = (run.generator.texts(NUM, prompt, first_key=i * NUM) for i, prompt in enumerate(given))
            codes = [row for rows in many for row in rows]
        else:
            codes = run.generator.targets(task, [row for row in given for _ in range(NUM)])
        made |= {f"{task} {i}": row for i, row in enumerate(codes)}
    return made


def whole_logits(run, modality):
    """Of all positions of the same two rows, by our model."""
    import torch

    from triptych.models.diffusion.inputs import DiffusionInputs

    length = run.run.model.sequence_length
    tokens_BS = torch.arange(2 * length).view(2, length)
    rows = torch.arange(2 * length)
    with torch.no_grad():
        logits = run.generator.model(DiffusionInputs(tokens_BS=tokens_BS, rows={modality: rows}, padding_BS=None))
    return logits[modality].view(2, length, -1).numpy()
