"""The report: one self-contained page from a run folder, and nothing else."""
