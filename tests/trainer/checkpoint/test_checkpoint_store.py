"""The store of a run on one rank: what is saved when, from which values, what stays, and what is loaded instead."""

import threading

import pytest
import torch
from fabricated_runs import IDENTITY, advance, folder_at, is_at, open_store, state_of

from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.disk import storage
from triptych.trainer.checkpoint.disk.folders import checkpoint_folders
from triptych.trainer.checkpoint.shards import Box, Held
from triptych.trainer.checkpoint.staging import Staging
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement


@pytest.fixture(scope="module", autouse=True)
def _one_process():
    with process_groups(Placement()):
        yield


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


def save_versions(folder, versions, **config):
    with open_store(folder, **config) as store:
        state = state_of()
        for version in versions:
            advance(state, version)
            store.save(state)


def saved_versions(folder):
    return [int(path.name.removeprefix("tokens-")) // 100 for path in checkpoint_folders(folder)]


@pytest.fixture
def gate(monkeypatch):
    """Holds every write until it is set."""
    opened, write = threading.Event(), storage.write_tensors

    def wait_and_write(*arguments):
        assert opened.wait(60)
        return write(*arguments)

    monkeypatch.setattr(storage, "write_tensors", wait_and_write)
    return opened


@pytest.mark.parametrize("writing", ["background", "blocking"])
def test_what_is_saved_is_loaded(folder, writing):
    save_versions(folder, [3], writing=writing)
    state = state_of()
    with open_store(folder) as store:
        store.load_newest(state)
    assert is_at(state, 3)


def test_a_background_save_has_the_values_of_its_moment(folder, gate):
    state = state_of(version=1)
    with open_store(folder) as store:
        store.save(state)
        advance(state, 2)
        gate.set()
        store.wait()
        store.load_newest(state)
    assert is_at(state, 1)


def test_a_save_waits_for_the_one_before(folder, gate):
    state = state_of(version=1)
    with open_store(folder) as store:
        store.save(state)
        threading.Timer(0.3, gate.set).start()
        assert saved_versions(folder) == []
        advance(state, 2)
        store.save(state)
        assert 1 in saved_versions(folder)


def test_the_end_of_the_run_waits(folder, gate):
    with open_store(folder) as store:
        store.save(state_of(version=1))
        threading.Timer(0.3, gate.set).start()
    assert saved_versions(folder) == [1]


def save_and_wait(store, state):
    store.save(state)
    store.wait()


@pytest.mark.parametrize("writing", ["background", "blocking"])
def test_a_full_disk_is_told_at_the_next_save_and_leaves_the_last_checkpoint(folder, monkeypatch, writing):
    state = state_of(version=1)
    save_versions(folder, [1])

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    advance(state, 2)
    store = open_store(folder, writing=writing)
    with pytest.raises(OSError, match=r"tokens-0+200 could not be written \(rank 0: .*No space left.*free disk space"):
        save_and_wait(store, state)
    monkeypatch.undo()
    store.load_newest(state)
    store.close()
    assert is_at(state, 1)


def save_and_break(folder):
    with open_store(folder) as store:
        store.save(state_of(version=1))
        raise ZeroDivisionError


def test_an_error_of_the_training_is_not_hidden_by_that_of_the_save(folder, monkeypatch):
    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ZeroDivisionError):
        save_and_break(folder)


def test_the_host_copy_is_taken_once(folder):
    staging, state = Staging(torch.device("cpu")), state_of(version=1)
    first = staging.copy(state.engine.held())
    size = staging.num_bytes
    advance(state, 2)
    second = staging.copy(state.engine.held())
    assert staging.num_bytes == size == sum(4 * memory.numel() for memory in state.engine.memory.values())
    boxes = [copy["weights"]["head.weight"].boxes[0].tensor for copy in (first, second)]
    assert boxes[0].data_ptr() == boxes[1].data_ptr()


@pytest.mark.gpu
def test_the_host_copy_of_cuda_memory_is_page_locked():
    staging, tensor = Staging(torch.device("cuda")), torch.randn(1000, 7, device="cuda")
    box = Box(offsets=(0, 0), sizes=(1000, 7), tensor=tensor)
    copy = staging.copy({"weights": {"a": Held(shape=(1000, 7), boxes=(box,))}})["weights"]["a"].boxes[0].tensor
    assert (copy.is_pinned(), torch.equal(copy, tensor.cpu())) == (True, True)
    staging.close()


def test_due_once_per_so_many_tokens(folder):
    state = state_of()
    with open_store(folder, every_tokens=250, keep_last=9) as store:
        for version in range(1, 11):
            advance(state, version)
            store.save_if_due(state)
    assert saved_versions(folder) == [3, 5, 8, 10]


def test_the_last_few_stay_and_the_first_past_each_multiple(folder):
    save_versions(folder, [1, 2, 3, 4, 5, 6, 7, 8], keep_last=2, keep_every_tokens=250)
    assert saved_versions(folder) == [3, 5, 7, 8]


def test_a_state_that_was_just_loaded_is_not_written_again(folder):
    save_versions(folder, [1])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with open_store(folder) as store:
        state = state_of()
        store.load_newest(state)
        store.save(state)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_an_interrupted_save_left_is_cleared_away(folder):
    (folder / ".partial-tokens-000000000000900").mkdir(parents=True)
    save_versions(folder, [1])
    assert [path.name for path in folder.iterdir()] == [folder_at(folder, 1).name]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["state.json", "weights-rank0000-000.safetensors", "exp_avg_sq-rank0000-000.safetensors"]
)
def test_a_damaged_checkpoint_is_passed_over_with_one_warning(folder, damage, name):
    save_versions(folder, [1, 2])
    DAMAGES[damage](folder_at(folder, 2) / name)
    warnings, state = [], state_of()
    with open_store(folder, warnings) as store:
        store.load_newest(state)
    assert is_at(state, 1)
    assert len(warnings) == 1
    assert all(word in warnings[0] for word in (str(folder_at(folder, 2)), name, folder_at(folder, 1).name))


def test_every_bit_of_the_index_counts(folder):
    """A flipped digit leaves sound JSON."""
    save_versions(folder, [1, 2])
    path = folder_at(folder, 2) / "state.json"
    path.write_text(path.read_text().replace('"tokens": 200', '"tokens": 201'))
    warnings, state = [], state_of()
    with open_store(folder, warnings) as store:
        store.load_newest(state)
    assert (state.tokens, len(warnings)) == (100, 1)


def test_a_damaged_one_never_displaces_a_sound_one(folder):
    """It is newer than what the run goes on from, but does not count as kept, and goes when a sound one is there."""
    save_versions(folder, [1, 3])
    flip(folder_at(folder, 3) / "state.json")
    state = state_of()
    with open_store(folder, keep_last=1) as store:
        store.load_newest(state)
        assert saved_versions(folder) == [1, 3]
        advance(state, 2)
        store.save(state)
    assert saved_versions(folder) == [2]


def test_a_damaged_one_is_replaced_when_the_run_comes_by_again(folder):
    save_versions(folder, [1, 2])
    flip(folder_at(folder, 2) / "state.json")
    state = state_of()
    with open_store(folder) as store:
        store.load_newest(state)
        advance(state, 2)
        store.save(state)
        store.load_newest(state)
    assert is_at(state, 2)


def test_no_sound_one_left_is_refused_with_every_reason(folder):
    save_versions(folder, [1, 2])
    for version in (1, 2):
        (folder_at(folder, version) / "state.json").unlink()
    with (
        open_store(folder) as store,
        pytest.raises(ValueError, match=r"no checkpoint is sound \(.*200.*; .*100.*remove"),
    ):
        store.load_newest(state_of())


def test_no_checkpoint_at_all_is_refused(folder):
    with open_store(folder) as store, pytest.raises(ValueError, match="holds no checkpoint to resume from"):
        store.load_newest(state_of())


def test_another_identity_is_an_error_not_damage(folder):
    save_versions(folder, [1, 2])
    with (
        open_store(folder, identity={**IDENTITY, "tokenizers": "b"}) as store,
        pytest.raises(ValueError, match=r"tokens-0+200 was made with another tokenizers"),
    ):
        store.load_newest(state_of())


def test_the_first_value_that_differs_is_named(folder):
    there = {**IDENTITY, "model": {"layers": 2, "vocabulary": {"image": 5, "multiple": 1}}}
    here = {**IDENTITY, "model": {"layers": 2, "vocabulary": {"image": 5, "multiple": 2}}}
    with open_store(folder, identity=there) as store:
        store.save(state_of())
    with (
        open_store(folder, identity=here) as store,
        pytest.raises(ValueError, match=r"another model \(model\.vocabulary\.multiple: 1 there, 2 here\)"),
    ):
        store.load_newest(state_of())


def test_another_format_is_an_error_not_damage(folder):
    save_versions(folder, [1, 2])
    (folder_at(folder, 2) / "state.json").write_text('{"format": 9}')
    with open_store(folder) as store, pytest.raises(ValueError, match="has format 9, this version reads 3"):
        store.load_newest(state_of())


class Count:
    """Something that a run carries: a number in the index, and as a tensor."""

    def __init__(self, value=0.0):
        self.tensor = torch.tensor([value])
        self.restored = "never"

    def held(self):
        return {"count/1": {"tensor": Held(shape=(1,), boxes=(Box(offsets=(0,), sizes=(1,), tensor=self.tensor),))}}

    def document(self):
        return {"number": self.tensor.item()}

    def restore(self, document):
        self.restored = document


def carrying(version=0, **carried):
    state = state_of(version=version)
    state.carried |= carried
    return state


@pytest.mark.parametrize("writing", ["background", "blocking"])
def test_what_the_run_carries_goes_with_it(folder, writing):
    warnings, count = [], Count()
    with open_store(folder, warnings, writing=writing) as store:
        store.save(carrying(1, count=Count(0.1)))
        store.load_newest(carrying(count=count))
    assert torch.equal(count.tensor, torch.tensor([0.1]))
    assert count.restored == {"number": torch.tensor(0.1).item()}
    assert warnings == []


def test_what_the_checkpoint_has_not_begins_anew_once_everything_else_is_loaded(folder):
    save_versions(folder, [3])
    warnings, count = [], Count(0.5)
    state = carrying(count=count)
    count.restore = lambda document: setattr(count, "restored", (document, state.tokens, state.logical_updates))
    with open_store(folder, warnings) as store:
        store.load_newest(state)
    assert (count.tensor.item(), count.restored) == (0.5, (None, 300, 1.5))
    assert warnings == [f"checkpoint {folder_at(folder, 3)} has no count; it begins anew"]


def test_what_the_run_does_not_ask_for_is_left_unread(folder):
    warnings, state = [], state_of()
    with open_store(folder, warnings) as store:
        store.save(carrying(2, count=Count(0.1)))
        store.load_newest(state)
    assert is_at(state, 2)
    assert warnings == [
        f"checkpoint {folder_at(folder, 2)} has count, which this run does not ask for; it is left unread"
    ]


def test_a_parameter_that_the_checkpoint_lacks_is_named_and_nothing_is_loaded(folder, monkeypatch):
    save_versions(folder, [1])
    state = state_of(version=2)
    held = state.engine.held()
    held["exp_avg"]["more"] = held["exp_avg"]["temperature"]
    monkeypatch.setattr(state.engine, "held", lambda: held)
    with (
        open_store(folder) as store,
        pytest.raises(ValueError, match=r"another model \(more: missing there, \(\) here"),
    ):
        store.load_newest(state)
    assert is_at(state, 2)


def test_boxes_that_leave_a_hole_are_refused(folder, monkeypatch):
    """Of one rank too, where torch does not count."""
    state = state_of(version=1)
    held = state.engine.held()
    tensor = held["weights"]["head.weight"]
    held["weights"]["head.weight"] = Held(shape=(13, 6), boxes=tensor.boxes)
    monkeypatch.setattr(state.engine, "held", lambda: held)
    with (
        pytest.raises(RuntimeError, match=r"hold 72 of 78 elements of weights:head"),
        open_store(folder) as store,
    ):
        store.save(state)
    assert saved_versions(folder) == []


@pytest.mark.parametrize("settings", [{"keep_last": 0}, {"every_tokens": -1}, {"keep_every_tokens": -1}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CheckpointConfig(**settings)
