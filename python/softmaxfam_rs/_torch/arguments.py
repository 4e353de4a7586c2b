"""What callers give, checked and brought into the form that operators take."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, strided
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch.autograd import forward_ad, graph
from torch.compiler import is_compiling, is_dynamo_compiling

from .kernels import PLAIN, is_plain
from .operators import is_abstract, is_differentiated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .operators import Operator, Value

HALVES = frozenset({torch.float16, torch.bfloat16})
FLOATS = HALVES | {torch.float32, torch.float64}


def is_simple(scores: Tensor, number: Value) -> bool:
    """Whether scores are plain, the parameter is a plain number, and nothing but autograd may follow the call.

    Most calls are such; they pass by the checks and conversions of `Call`, for the core makes these itself.
    """
    return (
        not is_dynamo_compiling()
        and type(scores) in PLAIN
        and type(number) is float
        and scores.is_floating_point()
        and scores.is_cpu
        and scores.layout is strided
        and not (transforms_are_active() or dispatch_modes() or scores.is_neg())
        and forward_ad._current_level < 0  # noqa: SLF001  as `is_in_forward_mode`, without a call
    )


class Call:
    """The scores of a call with their options."""

    def __init__(
        self,
        scores: Tensor,
        axis: int | Sequence[int] | None,
        where: Value = None,
        temperature: Value = 1.0,
        *,
        several: bool = False,
        name: str = "scores",
    ) -> None:
        self.name = name
        self.scores = _as_floats(name, scores)
        self.axes = _as_axes(axis, name, scores, several=several)
        self.temperature = self.parameter("temperature", temperature)
        self.where = where if where is None else self._mask(where)

    @property
    def options(self) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
        """The first arguments of each map of scores."""
        return (self.scores, self.where, *self.temperature)

    def parameter(self, name: str, given: Value) -> tuple[Tensor | None, float]:
        """Return a tensor with a number for each row, or None and the number for all."""
        if not isinstance(given, Tensor):
            if not isinstance(given, (list, tuple)):
                return None, float(given)
            given = as_tensor(given, self.scores.device, torch.float64)
        if given.dtype.is_complex:
            raise TypeError(f"{name} has dtype {given.dtype}, must be real; take {name}.real or {name}.abs()")
        shape = list(self.scores.shape)
        for axis in self.axes if shape else ():
            shape[axis] = 1
        self._fit(name, given, shape)
        return given, 0.0

    def beside(self, name: str, given: Value) -> Value:
        """Return a number for each class, in a dtype of its own."""
        given = as_tensor(given, self.scores.device, torch.promote_types(self.scores.dtype, torch.float32))
        self._fit(name, given, self.scores.shape)
        return given

    def same(self, name: str, given: Value) -> Value:
        """Return a tensor of the dtype of the first argument, such as a gradient."""
        given = as_tensor(given, self.scores.device, self.scores.dtype)
        if given.dtype is not self.scores.dtype:
            raise TypeError(
                f"{name} has dtype {given.dtype}, must be {self.scores.dtype} as {self.name}; "
                f"convert with {name}.to({self.name}.dtype)"
            )
        return given

    def count_of_classes(self, name: str, given: Value) -> int:
        """Return a number from 1 to the number of classes."""
        count = operator.index(given)
        classes = self.scores.shape[self.axes[0]] if self.scores.ndim else 1
        if not 1 <= count <= classes:
            raise ValueError(
                f"{name} is {count}, must lie in [1, {classes}], the number of classes; take min({name}, n_classes)"
            )
        return count

    def check_out(self, out: Tensor, shape: Sequence[int]) -> Tensor:
        """Check a tensor to write, of which the core has not checked shape and dtype."""
        if not isinstance(out, Tensor):
            raise TypeError(f"out is a {type(out).__name__}, must be a torch.Tensor")
        if tuple(out.shape) != tuple(shape):
            raise ValueError(f"out has shape {tuple(out.shape)}, must have shape {tuple(shape)}")
        if out.dtype is not self.scores.dtype:
            raise ValueError(f"out has dtype {out.dtype}, must have dtype {self.scores.dtype}")
        return out

    def _mask(self, where: Value) -> Value:
        where = as_tensor(where, self.scores.device)
        if where.dtype is not torch.bool:
            raise TypeError(
                f"where has dtype {where.dtype}, must be torch.bool; compare to get a mask, such as where != 0"
            )
        self._fit("where", where, self.scores.shape)
        return where

    def _fit(self, name: str, given: Tensor, shape: Sequence[int]) -> None:
        own = given.shape
        if given.device != self.scores.device and own:
            raise ValueError(
                f"{name} is on {given.device}, must be on {self.scores.device} as {self.name}; "
                f"move it with {name}.to({self.name}.device)"
            )
        fits = len(own) <= len(shape) and all(
            length in (1, needed) for length, needed in zip(reversed(own), reversed(shape), strict=False)
        )
        if not fits:
            raise ValueError(f"{name} has shape {tuple(own)}, must broadcast to {tuple(shape)}; reshape it first")


def as_tensor(given: Value, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return tensors as they are, others on a device, whatever torch's default device is."""
    return given if isinstance(given, Tensor) else torch.as_tensor(given, dtype=dtype, device=device)


def _as_floats(name: str, scores: Value) -> Value:
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"{name} is a {type(scores).__name__}, must be a torch.Tensor; convert with torch.asarray({name})"
        )
    if scores.layout is not torch.strided:
        raise TypeError(f"{name} has layout {scores.layout}, must be torch.strided; convert with {name}.to_dense()")
    if not is_compiling() and scores.is_neg():
        scores = scores.resolve_neg()
    if scores.is_cuda and scores.dtype in HALVES and torch.is_autocast_enabled("cuda"):
        return scores.float()  # as for torch.softmax there; on CPU torch leaves the dtype
    if scores.dtype in FLOATS:
        return scores
    if scores.dtype.is_complex or scores.dtype.is_floating_point or scores.is_quantized:
        raise TypeError(
            f"{name} has dtype {scores.dtype}, must be float16, bfloat16, float32, float64, an integer or bool; "
            f"convert with {name}.to(torch.float64)"
        )
    return scores.to(torch.get_default_dtype())


def _as_axes(axis: Value, name: str, scores: Tensor, *, several: bool) -> list[int]:
    rank = max(scores.ndim, 1)
    if several and axis is None:
        return list(range(rank))
    if several and isinstance(axis, (list, tuple)):
        given = [operator.index(one) for one in axis]
    else:
        try:
            given = [operator.index(axis)]
        except TypeError:
            accepted = "an int, a tuple of ints or None" if several else "an int"
            raise TypeError(f"axis is {axis!r}, must be {accepted}") from None
    axes: list[int] = []
    for one in given:
        if not -rank <= one < rank:
            raise ValueError(
                f"axis is {one}, must lie in [{-rank}, {rank - 1}] for {name} of shape {tuple(scores.shape)}"
            )
        if one % rank in axes:
            raise ValueError(f"axis names axis {one % rank} twice, must name each once")
        axes.append(one % rank)
    return axes


def written(map_: Operator, args: tuple[Value, ...], out: Tensor | None, call: Call) -> Value:
    """Call a map, into `out` if it is given."""
    if out is None:
        return map_(*args)
    if is_differentiated(*args, out):
        raise ValueError("out is given for tensors that require grad, must be None; or call it under torch.no_grad()")
    traced = is_compiling() or transforms_are_active() or dispatch_modes() or is_abstract(args[0])
    if traced or not (is_plain(args[0]) and is_plain(out)):
        result = map_(*args)
        return call.check_out(out, result.shape).copy_(result)
    map_.kernel(*args, out)
    if not out.is_inference():
        graph.increment_version(out)
    return out
