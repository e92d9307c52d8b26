"""A Ray cluster and a command on it as one Slurm job (see README.md here)."""
