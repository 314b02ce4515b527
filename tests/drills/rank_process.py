"""One rank's life in a drill: forked from a process that has imported everything, it runs `triptych train` as a
launcher's child does. Nothing of the product is imported at the top: the fork server must quiet libraries first.
"""

import ctypes
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from moments import Moment, plant
from troubles import Trouble, make_trouble

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>


@dataclass(kw_only=True, slots=True, frozen=True)
class Life:
    """What one rank is to do. arguments: of `triptych`. environment: on top of the server's. network: the namespace's
    name, None for this machine's own. moment, trouble: what waits for it, and what is wrong with its step, if any.
    """

    rank: int
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path
    network: str | None = None
    moment: Moment | None = None
    trouble: Trouble | None = None


def rank_main(life):
    """Never returns: the process ends with the command's exit code."""
    for name, descriptor in (("out", 1), ("err", 2)):
        with (life.folder / f"{name}{life.rank}").open("a") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(life.folder)
    os.environ.update(life.environment)
    if life.network is not None:
        enter_network(life.network)
    if life.moment is not None:
        plant(life.moment, life.rank, life.folder)
    if life.trouble is not None:
        make_trouble(life.trouble, life.rank, life.folder)
    from triptych.launch.cli import main

    sys.argv = ["triptych", *life.arguments]
    main(life.arguments)


def enter_network(name):
    """Move this process, which has one thread, into a network namespace that `ip netns` has made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as file:
        if libc.setns(file.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"network namespace {name} cannot be entered")
