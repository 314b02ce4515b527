"""A rank in a process of its own, for torchrun's agents and for a clock that is off: `torchrun_rank.py FOLDER`, where
life.pickle of the drill's own making says what it is to do.
"""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

from rank_process import rank_main

if __name__ == "__main__":
    rank = int(os.environ.get("RANK", "0"))
    rank_main(replace(pickle.loads((Path(sys.argv[1]) / "life.pickle").read_bytes()), rank=rank))
