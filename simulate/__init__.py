"""Discrete time: optimisers, and the tasks they are run on."""
