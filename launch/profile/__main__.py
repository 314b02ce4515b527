"""`torchrun ... -m triptych.launch.profile RUN`: `triptych profile RUN` as one of many processes.

Nothing else is here: libraries are told to be quiet before the first of them is imported.
"""

from triptych.launch.cli import main

if __name__ == "__main__":
    main(prefix=("profile",))
