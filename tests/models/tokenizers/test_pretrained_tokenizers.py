"""Pretrained image and audio models as tokenizers: real classes, random weights."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
import tiny_pretrained
from safetensors.numpy import load_file, save_file

from triptych.models.tokenizers.adopt import Adoption, adopt
from triptych.models.tokenizers.audio.tokenizer import AUDIO_KINDS
from triptych.models.tokenizers.image.tokenizer import IMAGE_KINDS
from triptych.models.tokenizers.registry import load_tokenizer

NEEDS_TORCHAUDIO = pytest.mark.skipif(
    importlib.util.find_spec("torchaudio") is None, reason="transformers has this one only where torchaudio is"
)
AUDIO = [pytest.param(k, marks=NEEDS_TORCHAUDIO if k == "higgs_audio_v2" else ()) for k in AUDIO_KINDS]
RNG = np.random.default_rng(0)
CLIPS = [(RNG.standard_normal(n) * 0.2).astype(np.float32) for n in (0, 1, 50, 900, 900, 2000, 1999)]
PICTURES = [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((16, 16, 3), (40, 21, 3), (17, 33))]


def modality_of(kind):
    return "audio" if kind in AUDIO_KINDS else "image"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folder of a kind's model, as its own library saves it."""
    root = tmp_path_factory.mktemp("published")

    def folder(kind):
        if not (root / kind).exists():
            tiny_pretrained.build(kind).save_pretrained(root / kind)
        return root / kind

    return folder


@pytest.fixture(scope="module")
def adopted(published, tmp_path_factory):
    """The tokenizer of a kind with these choices, adopted once; and its folder."""
    root, made = tmp_path_factory.mktemp("adopted"), {}

    def tokenizer(kind, **choices):
        if modality_of(kind) == "image":
            choices = {"image_size": 16, **choices}
        key = (kind, *choices.items())
        if key not in made:
            folder = root / str(len(made))
            made[key] = adopt(published(kind), modality_of(kind), folder, Adoption(**choices)), folder
        return made[key]

    return tokenizer


def raw_of(kind):
    return CLIPS if modality_of(kind) == "audio" else PICTURES


def assert_same(some, others):
    assert [one.tolist() for one in some] == [one.tolist() for one in others]


EVERY = [*AUDIO, *IMAGE_KINDS]


@pytest.mark.parametrize("kind", EVERY)
def test_codes_are_int64_in_the_vocabulary_and_not_all_the_same(adopted, kind):
    tokenizer, _ = adopted(kind)
    codes = np.concatenate(tokenizer.encode(raw_of(kind)))
    assert codes.dtype == np.int64
    assert codes.min() >= 0 and codes.max() < tokenizer.vocab_size
    assert len(np.unique(codes)) > 5


@pytest.mark.parametrize("kind", EVERY)
def test_a_batch_gives_the_codes_of_one_by_one(adopted, kind):
    tokenizer, _ = adopted(kind)
    assert_same(tokenizer.encode(raw_of(kind)), [tokenizer.encode([one])[0] for one in raw_of(kind)])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", EVERY)
def test_the_device_changes_no_code(adopted, kind):
    tokenizer, folder = adopted(kind)
    assert_same(load_tokenizer(folder, "cuda").encode(raw_of(kind)), tokenizer.encode(raw_of(kind)))


@pytest.mark.parametrize("kind", EVERY)
def test_the_folder_holds_all_of_it(adopted, tmp_path, kind):
    tokenizer, _ = adopted(kind)
    tokenizer.save(tmp_path / "copy")
    loaded = load_tokenizer(tmp_path / "copy")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert_same(loaded.encode(raw_of(kind)[:2]), tokenizer.encode(raw_of(kind)[:2]))


@pytest.mark.parametrize("kind", AUDIO)
def test_as_many_codes_as_the_clip_has_frames(adopted, kind):
    tokenizer, _ = adopted(kind)
    config = tiny_pretrained.build(kind).config
    rate = config.sample_rate if kind == "higgs_audio_v2" else config.sampling_rate
    hop = config.frame_size if kind == "mimi" else config.hop_length
    num_frames = [math.ceil(math.ceil(len(clip) * rate / 16_000) / hop) for clip in CLIPS]
    assert [len(codes) for codes in tokenizer.encode(CLIPS)] == [tokenizer.pattern.num_codes(n) for n in num_frames]


@pytest.mark.parametrize("kind", AUDIO)
def test_decoded_clips_are_as_long_as_their_frames(adopted, kind):
    tokenizer, _ = adopted(kind)
    clips = tokenizer.decode(tokenizer.encode(CLIPS))
    rounding = 1 + tokenizer.decode(tokenizer.encode(CLIPS[1:2]))[0].size  # a frame, and a sample of resampling
    assert all(clip.dtype == np.float32 and np.abs(clip).max(initial=0) <= 1 for clip in clips)
    assert all(0 <= len(clip) - len(was) + 1 <= rounding for clip, was in zip(clips, CLIPS, strict=True))


@pytest.mark.parametrize("kind", [kind for kind in IMAGE_KINDS if kind != "vq_chameleon"])
def test_decoded_pictures_are_squares(adopted, kind):
    tokenizer, _ = adopted(kind)
    images = tokenizer.decode(tokenizer.encode(PICTURES))
    assert {(image.shape, image.dtype) for image in images} == {((16, 16, 3), np.dtype(np.uint8))}


@pytest.mark.parametrize("kind", ["mimi", "dac", "encodec"])
def test_the_first_codebooks_are_those_of_all(adopted, kind):
    whole, _ = adopted(kind)
    first, _ = adopted(kind, num_codebooks=2)
    some, alls = first.encode(CLIPS), whole.encode(CLIPS)
    assert_same(map(first.pattern.codes_of, some), [whole.pattern.codes_of(codes)[:2] for codes in alls])


@pytest.mark.parametrize("codebooks", ["delayed", "parallel"])
def test_codebooks_may_be_arranged_otherwise(adopted, codebooks):
    plain, _ = adopted("dac")
    other, _ = adopted("dac", codebooks=codebooks)
    some, others = plain.encode(CLIPS), other.encode(CLIPS)
    assert_same(map(plain.pattern.codes_of, some), map(other.pattern.codes_of, others))


def test_any_stream_of_codes_sounds(adopted):
    tokenizer, _ = adopted("dac", codebooks="delayed")
    streams = [RNG.integers(0, tokenizer.vocab_size, n) for n in (0, 1, 7, 8, 61)]
    assert all(np.isfinite(clip).all() for clip in tokenizer.decode(streams))


def test_the_raw_rate_says_how_long_a_clip_is(adopted):
    slow, _ = adopted("dac", sample_rate_hertz=11_025)
    fast, _ = adopted("dac", sample_rate_hertz=22_050)
    clip = CLIPS[3][:500]
    assert (slow.sample_rate_hertz, len(slow.encode([clip])[0])) == (11_025, 2 * len(fast.encode([clip])[0]))


def test_every_choice_changes_the_fingerprint(adopted):
    choices = [{}, {"codebooks": "delayed"}, {"num_codebooks": 2}, {"sample_rate_hertz": 11_025}]
    prints = [adopted("dac", **choice)[0].fingerprint for choice in choices]
    prints += [adopted("vq_diffusers", **choice)[0].fingerprint for choice in ({}, {"precision": "float32"})]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_of_what_is_adopted_not_of_when(adopted, published, tmp_path):
    again = adopt(published("dac"), "audio", tmp_path / "again")
    assert again.fingerprint == adopted("dac")[0].fingerprint


def test_the_whole_model_gives_the_codes_of_its_part(tmp_path):
    whole = tiny_pretrained.whole_chameleon()
    whole.save_pretrained(tmp_path / "whole")
    whole.model.vqmodel.save_pretrained(tmp_path / "part")
    made = [
        adopt(tmp_path / name, "image", tmp_path / f"of_{name}", Adoption(image_size=16)) for name in ("whole", "part")
    ]
    assert_same(made[0].encode(PICTURES), made[1].encode(PICTURES))


def test_the_processor_says_size_and_normalization(published, tmp_path):
    source = shutil.copytree(published("vq_emu3"), tmp_path / "source")
    processor = {"size": {"height": 12, "width": 12}, "image_mean": [0.1] * 3, "image_std": [0.2] * 3, "resample": 1}
    (source / "preprocessor_config.json").write_text(json.dumps(processor))
    pixels = adopt(source, "image", tmp_path / "out").config.pixels
    assert (pixels.image_size, pixels.mean, pixels.std, pixels.filter) == (12, (0.1,) * 3, (0.2,) * 3, "lanczos")


def test_a_model_made_for_one_size_says_it(published, tmp_path):
    assert adopt(published("vq_janus"), "image", tmp_path / "out").config.pixels.image_size == 16


def test_without_a_decoder_codes_stay_codes(adopted):
    tokenizer, _ = adopted("vq_chameleon")
    with pytest.raises(ValueError, match="has no decoder"):
        tokenizer.decode(tokenizer.encode(PICTURES))


@pytest.mark.parametrize(
    ("kind", "raw", "says"),
    [
        ("dac", np.zeros(9), "float64"),
        ("dac", np.full(9, np.nan, np.float32), "finite"),
        ("dac", np.zeros((2, 9), np.float32), r"\[2, 9\]"),
        ("vq_diffusers", np.zeros((4, 4, 4), np.uint8), r"\[4, 4, 4\]"),
        ("vq_diffusers", np.zeros((4, 4), np.float32), "float32"),
        ("vq_diffusers", np.zeros((0, 4), np.uint8), r"\[0, 4\]"),
    ],
)
def test_what_is_no_raw_data_is_named(adopted, kind, raw, says):
    with pytest.raises(ValueError, match=says):
        adopted(kind)[0].encode([raw])


@pytest.mark.parametrize("codes", [np.zeros(63, np.int64), np.full(64, 32), np.full(64, -1)])
def test_codes_that_are_no_picture_are_refused(adopted, codes):
    with pytest.raises(ValueError, match="image"):
        adopted("vq_diffusers")[0].decode([codes])


@pytest.mark.parametrize(
    ("kind", "choices", "says"),
    [
        ("dac", {"num_codebooks": 4}, "1 to 3 codebooks, not 4"),
        ("dac", {"num_codebooks": 0}, "1 to 3 codebooks, not 0"),
        ("dac", {"sample_rate_hertz": 0}, "sample_rate_hertz=0"),
        ("dac", {"image_size": 16}, "image_size says nothing about a tokenizer of audio"),
        ("vq_diffusers", {}, "--image-size"),
        ("vq_diffusers", {"image_size": 17}, "image_size=17 must be a multiple"),
        ("vq_janus", {"image_size": 20}, "choose image_size=16"),
    ],
)
def test_choices_that_do_not_fit_leave_nothing(published, tmp_path, kind, choices, says):
    with pytest.raises(ValueError, match=says):
        adopt(published(kind), modality_of(kind), tmp_path / "out", Adoption(**choices))
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_not_read(published, tmp_path):
    source = shutil.copytree(published("dac"), tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle"):
        adopt(source, "audio", tmp_path / "out")


def test_missing_weights_are_named_instead_of_drawn(published, tmp_path):
    source = shutil.copytree(published("dac"), tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    del weights["quantizer.quantizers.1.codebook.weight"]
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of DacModel, such as quantizer\.quantizers\.1\.codebook"):
        adopt(source, "audio", tmp_path / "out")


def test_codecs_that_scale_clips_are_refused(tmp_path):
    tiny_pretrained.encodec(normalize=True).save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match="scales are no codes"):
        adopt(tmp_path / "source", "audio", tmp_path / "out")


def test_stereo_codecs_are_refused(tmp_path):
    tiny_pretrained.encodec(audio_channels=2).save_pretrained(tmp_path / "source")
    with pytest.raises(ValueError, match="takes 2 channels"):
        adopt(tmp_path / "source", "audio", tmp_path / "out")


def test_a_model_of_the_other_modality_is_named(published, tmp_path):
    with pytest.raises(ValueError, match="is a VQModel, which no tokenizer here is made of; give one of mimi"):
        adopt(published("vq_diffusers"), "audio", tmp_path / "out")


def changed_weight(folder):
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["encoder.conv1.bias"] = weights["encoder.conv1.bias"] + 1
    save_file(weights, path, {"format": "pt"})


def changed_field(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace("flattened", "parallel"))


def changed_model(folder):
    path = folder / "model" / "config.json"
    path.write_text(path.read_text().replace("22050", "16000"))


@pytest.mark.parametrize("change", [changed_weight, changed_field, changed_model])
def test_a_folder_that_was_changed_is_refused(adopted, tmp_path, change):
    shutil.copytree(adopted("dac")[1], tmp_path / "copy")
    change(tmp_path / "copy")
    with pytest.raises(ValueError, match=r"is not what .*config\.json describes"):
        load_tokenizer(tmp_path / "copy")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 99])
def test_a_damaged_folder_is_named(adopted, tmp_path, name, content):
    shutil.copytree(adopted("dac")[1], tmp_path / "copy")
    path = tmp_path / "copy" / "model" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / "copy" / "model")) as caught:
        load_tokenizer(tmp_path / "copy")
    assert "\n" not in str(caught.value)
