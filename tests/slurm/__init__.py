"""A real Slurm cluster, metered by real agents on GPUs whose joules are known."""
