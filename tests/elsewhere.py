"""A device for machines that have none: its tensors compute on the CPU, and mix with no others.

A GPU refuses what a CPU lets pass: an index made without a device, a constant of another place,
numpy. So within :func:`elsewhere` tensors may be put on torch's "meta" device, which every build
has, and there they keep their numbers. What is refused on CUDA is refused here, what comes out has
the bits of the CPU, and random numbers are not drawn there at all, for they would be others there.

Not told apart from a GPU: kernels, their rounding and their order of sums, streams, and files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

ELSEWHERE = torch.device("meta")
CPU = torch.device("cpu")
# These may have tensors of two places: the first two copy, the others take indices of the CPU.
COPIES = {"aten::copy_", "aten::_to_copy"}
INDEXES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}
INDEXING = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}


class MixedDevices(RuntimeError):
    """An operation on tensors of two devices."""


class There(Tensor):
    """A tensor elsewhere. ``held`` has its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        there: There = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=ELSEWHERE,
        )
        there.held = held
        return there

    def __deepcopy__(self, memo: Any) -> Tensor:
        made = There(self.held.detach().clone())
        # Of a parameter, as of torch's own, without its gradient.
        return Parameter(made, self.requires_grad) if isinstance(self, Parameter) else made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        return _computed(func, args, kwargs or {})


class _Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Called(TorchFunctionMode):
    """What does not come to the dispatcher: making tensors from numbers, and numbers of tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func == torch.Tensor.new_tensor:
            alike = {"dtype": args[0].dtype, "device": args[0].device}
            func, args, options = torch.tensor, args[1:], {**alike, **options}
        if func in MAKERS and not isinstance(args[0], There):
            device = options.pop("device", None)
            made = func(*args, **options)
            return made if device is None else made.to(device)
        if func in INDEXING:
            # torch would make an index of a list where nobody sees it.
            args = (args[0], _indices(args[1]), *args[2:])
        if func is torch.Tensor.tolist and isinstance(args[0], There):
            return args[0].held.tolist()
        done = func(*args, **options)
        if func == torch.Tensor.data.__set__ and isinstance(args[0], There):  # type: ignore[attr-defined]
            args[0].held = args[1].held
        return done


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Within it :data:`ELSEWHERE` is a device that computes."""
    with _Dispatched(), _Called():
        yield ELSEWHERE


@contextmanager
def here() -> Iterator[None]:
    """Within it, and within :func:`elsewhere`, torch is what it is: on functorch modes crash."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield


def _indices(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_indices(each) for each in index)
    return torch.tensor(index) if isinstance(index, list) else index


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": CPU}
    leaves, structure = tree_flatten((args, kwargs))
    given = [x for x in leaves if isinstance(x, Tensor)]
    there = [x for x in given if isinstance(x, There)]
    comes_there = bool(there) if device is None else torch.device(device) == ELSEWHERE
    _require_one_place(func, args, given, there)
    if comes_there and torch.Tag.nondeterministic_seeded in func.tags:
        raise MixedDevices(f"{func}: random numbers are drawn on the CPU, and then moved")
    if there:
        held = [x.held if isinstance(x, There) else x for x in leaves]
        args, kwargs = tree_unflatten(held, structure)
    done = func(*args, **kwargs)
    if not comes_there:
        return done
    if isinstance(done, Tensor):
        return _wrapped(func, done, there)
    return tree_map_only(Tensor, lambda x: _wrapped(func, x, there), done)


def _wrapped(func: Any, held: Tensor, there: list[There]) -> There:
    for one in there:
        if one.held is held:
            if one.shape != held.shape:
                raise NotImplementedError(f"{func}: changes a shape in place")
            return one
    return There(held)


def _require_one_place(func: Any, args: Any, given: list[Tensor], there: list[There]) -> None:
    here = [x for x in given if not isinstance(x, There)]
    if any(x.device == ELSEWHERE for x in here):
        raise NotImplementedError(f"{func}: a tensor was made elsewhere that nobody saw")
    name = func._schema.name
    if not there or not here or name in COPIES:
        return
    if name in INDEXES:
        fits = isinstance(args[0], There) and (
            name == "aten::index" or isinstance(args[2], There) or not args[2].ndim
        )
    else:
        # A number is welcome everywhere.
        fits = torch.Tag.pointwise in func.tags and not any(x.ndim for x in here)
    if not fits:
        shapes = [tuple(x.shape) for x in here], [tuple(x.shape) for x in there]
        raise MixedDevices(f"{func}: {shapes[0]} on the CPU beside {shapes[1]} elsewhere")
