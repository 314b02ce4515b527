"""Imported once by the server that ranks are forked from: everything that a training imports, libraries quieted."""

from triptych.launch.environment import prepare_libraries

prepare_libraries()

import triptych.launch.cli  # noqa: E402
import triptych.launch.commands.training.train  # noqa: E402
import triptych.launch.training  # noqa: E402
import triptych.models.trimodal.model  # noqa: E402
import triptych.trainer.loader.worker  # noqa: E402, F401
