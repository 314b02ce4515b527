"""Where a drill takes place: its folder, disk, networks, data and clock; what its run has left there."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from launching import Agents, Forked
from plans import EVERY_TOKENS, TOTAL_TOKENS
from rank_process import Life
from tiny_world import World

HERE = Path(__file__).parent
DISK_BYTES = 96 * 2**20
WATCH = {"fit__watch__silence_seconds": 8, "fit__watch__suspicion_seconds": 3, "fit__watch__beat_seconds": 0.2}
SPLITS = {"1": {}, "dp2": {}, "tp2": {"fit__parallel__tensor": 2}, "dp2 tp2": {"fit__parallel__tensor": 2}}


@dataclass(kw_only=True, slots=True, frozen=True)
class FakeClock:
    """rank: whose clock it is. library: what is preloaded there. file: what it adds to the clock."""

    rank: int
    library: Path
    file: Path

    @property
    def environment(self):
        return {"LD_PRELOAD": str(self.library), "DRILL_CLOCK_FILE": str(self.file)}

    def jump(self, seconds):
        self.file.touch()
        with self.file.open("r+b") as file:  # in place: it is mapped
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def build_clock(folder):
    """The library that a FakeClock preloads, compiled into `folder`; None where there is no compiler."""
    compiler = shutil.which("cc")
    library = folder / "shifted_clock.so"
    if compiler is not None:
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", library, HERE / "shifted_clock.c", "-ldl"]
        subprocess.run(command, check=True)
    return library if library.exists() else None


class Scene:
    """Of one drill. A context manager: disks and networks are gone afterwards, and every process."""

    def __init__(self, drill, folder, world):
        self.drill, self.folder, self.data = drill, folder, world.data
        self.reached = {}
        self.notes = {}
        self.networks, self.address = (), "127.0.0.1"
        self.clock = None
        self.ranks = None
        self._stack = contextlib.ExitStack()
        self._attempts = 0

    def __enter__(self):
        self.folder.mkdir(parents=True)
        (self.folder / "disk").mkdir()
        if self.drill.kind == "full disk":
            self._mount()
        if self.drill.kind == "network down":
            self._connect()
        if self.drill.kind == "corrupt shard":
            shutil.copytree(self.data, self.folder / "data")
            self.data = self.folder / "data"
        if self.drill.kind == "clock jump":
            self.clock = FakeClock(
                rank=self.drill.victim, library=self.folder.parent / "shifted_clock.so", file=self.folder / "clock"
            )
            self.clock.jump(0)
        return self

    def __exit__(self, *exception):
        self.end_attempt()
        self._stack.close()

    @property
    def run(self):
        return self.folder / "disk" / "run"

    @property
    def attempt(self):
        """The folder of the present start."""
        return self.folder / f"attempt{self._attempts - 1}"

    def start(self):
        """Start the run, or start it again as its launcher would; only the first start is held up anywhere."""
        is_first = self._attempts == 0
        self._attempts += 1
        self.attempt.mkdir()
        drill = self.drill
        arguments = tuple(map(str, self._arguments()))
        own = {"GLOO_SOCKET_IFNAME": "drill"} if self.networks else {}
        lives = [
            Life(
                rank=rank,
                arguments=arguments,
                environment=dict(own),
                folder=self.attempt,
                network=self.networks[rank * len(self.networks) // drill.num_ranks] if self.networks else None,
                moment=drill.moment if is_first else None,
                trouble=drill.trouble,
            )
            for rank in range(drill.num_ranks)
        ]
        if drill.launcher == "torchrun":
            life = replace(lives[0], network=None)  # its agent is in that network, and so is what the agent starts
            networks = self.networks or (None,)
            self.ranks = Agents(life, len(lives), networks=networks, address=self.address, environment=own)
        else:
            served = drill.launcher == "agent"
            clock = self.clock if is_first else None
            self.ranks = Forked(lives, served=served, address=self.address, clock=clock)

    def end_attempt(self):
        if self.ranks is not None:
            self.ranks.close()
            self.ranks = None

    def wait_for_moment(self, seconds):
        """Until the rank that waits has said so; False if the run ends first, or time does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (self.attempt / "reached").exists():
                self.reached = json.loads((self.attempt / "reached").read_text())
                return True
            if all(code is not None for code in self.ranks.codes):
                return False
            time.sleep(0.005)
        return False

    def records(self, rank=0):
        """Steps that a rank has logged over all starts, in the order of writing."""
        path = self.run / "logs" / f"rank{rank}.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in whole if "event" not in each]

    def checkpoints(self):
        """Tokens of those that have their name, in order."""
        return sorted(int(path.name.removeprefix("tokens-")) for path in (self.run / "checkpoints").glob("tokens-*"))

    def said(self):
        """All that the processes of this start have written to the terminal's error stream."""
        paths = [*self.attempt.glob("err*"), *self.attempt.glob("agent*")]
        return "".join(path.read_text() for path in sorted(paths))

    def _arguments(self):
        changes = {
            "fit__total_tokens": TOTAL_TOKENS,
            "fit__checkpoint__every_tokens": EVERY_TOKENS,
            "model__vocabulary_multiple": 4,  # what tensor parallelism splits
            "fit__logical_batch": 4,
            "fit__micro_batch_per_dp_rank": 2,
            **WATCH,
            **SPLITS[self.drill.layout],
            **self.drill.settings,
        }
        world = World(self.data.parent)
        world.data = self.data
        return world.training(self.run, "--resume-if-started", **changes)

    def _mount(self):
        disk = str(self.folder / "disk")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", disk], check=True)
        self._stack.callback(subprocess.run, ["umount", "-l", disk], check=False)

    def _connect(self):
        """Two network namespaces, one for each node, joined by a pair of veth devices."""
        number = self.drill.number
        self.networks = tuple(f"drill{os.getpid()}-{number}{side}" for side in "ab")
        first, second = self.networks
        for name in self.networks:
            _ip("netns", "add", name)
            self._stack.callback(_ip, "netns", "del", name)
        _ip("-n", first, "link", "add", "drill", "type", "veth", "peer", "name", "drill", "netns", second)
        self.address = f"10.77.{number % 200}.1"
        for side, name in enumerate(self.networks, 1):
            _ip("-n", name, "addr", "add", f"10.77.{number % 200}.{side}/24", "dev", "drill")
            self.set_link(side - 1, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def set_link(self, side, state):
        _ip("-n", self.networks[side], "link", "set", "drill", state)


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def can_mount(folder):
    """Whether a small file system can be mounted in `folder`; a reason if not."""
    with contextlib.suppress(subprocess.CalledProcessError, FileNotFoundError):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096", "none", folder], check=True, capture_output=True)
        subprocess.run(["umount", folder], check=True)
        return None
    return "needs leave to mount"


def can_make_networks():
    """Whether this kernel and user may; a reason if not."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    name = f"drill{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "drill", "type", "veth", "peer", "name", "drill1")
        _ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here ({error.stderr.decode().strip()})"
    return None


RUN_SOURCES = {"text": ("text",), "digits": ("t2i", "i2t"), "speech": ("t2s", "s2t")}
"""Which sources of the run read a set of shards."""
NUM_DAMAGED = 2


def damage_shard(folder, damage, seed, name):
    """Damage a set of codes in a copy of the data. Returns the samples that are lost by it, as (source, number)."""
    draw = random.Random(seed)
    (shard,) = sorted((folder / "codes" / name / "train").glob("*.tar"))
    index = shard.with_suffix(".index.npy")
    if damage == "index":
        os.truncate(index, index.stat().st_size // 2)
        return ()
    rows = np.load(index)
    numbers = draw.sample(range(len(rows)), NUM_DAMAGED)
    content = bytearray(shard.read_bytes())
    for number in numbers:
        (codes, *_) = [field for field in rows.dtype.names if field.endswith(".npy")]
        content[int(rows[number][codes]["offset"]) + int(rows[number][codes]["size"]) - 1] ^= 0x55
    shard.write_bytes(content)
    return tuple((source, number) for source in RUN_SOURCES[name] for number in numbers)


def restore_shard(folder, sound, name):
    """What was damaged is as it is in `sound` again."""
    shutil.copytree(sound / "codes" / name / "train", folder / "codes" / name / "train", dirs_exist_ok=True)
