"""Runs on a Slurm cluster: a script that can be read, and what stands between Slurm's signals and the processes."""
