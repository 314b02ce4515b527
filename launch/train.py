"""`torchrun ... -m triptych.launch.train RUN`: `triptych train RUN` as one of many processes.

Nothing else is here: stops are remembered, and libraries told to be quiet, before the first of them is imported.
"""

from triptych.launch.signals import remember_stops

if __name__ == "__main__":
    remember_stops()
    from triptych.launch.cli import main

    main(prefix=("train",))
