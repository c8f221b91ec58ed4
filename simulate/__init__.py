"""Discrete time: optimisers, tasks, the training loop, sweeps."""
