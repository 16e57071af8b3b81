"""Where a grid runs and how: processes, submitit, Slurm, several GPUs."""
