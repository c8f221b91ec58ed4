"""The GPUs that a run computes on."""

from __future__ import annotations


def gpu_names(device: str) -> tuple[str, ...]:
    """Of the GPUs that a run on this device has; none on the CPU.

    Raises ValueError where CUDA is asked for and this machine, or this build of torch, has none.
    """
    if device == "cpu":
        return ()
    # It takes its time to load, and on the CPU only the workers need it.
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without it"
        raise ValueError(
            f"{device} is asked for, and torch {torch.__version__}, {built}, finds no GPU here; "
            "run without --device, or where there is one with a torch for it"
        )
    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
