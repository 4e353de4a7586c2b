"""The ways in which torch calls a map: at once, for autograd, under transforms, or as a registered operator.

A map is a class with the static methods of an `autograd.Function`: `forward` (the kernel), `setup_context`, `backward`,
`jvp` and `vmap`, and with a `schema` and a `fake` kernel, which gives shapes. An `Operator` makes of it what each way
needs. Registered operators are what compilers, tracers and fake tensors see: they cannot look into the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch._subclasses import FakeTensor
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIBRARY = torch.library.Library("softmaxfam_rs", "DEF")  # type: ignore[no-untyped-call]

Value: TypeAlias = Any  # an argument or a result of a map: a tensor, an option, or a tuple of them
Context: TypeAlias = Any  # of an autograd.Function, whose stubs leave open what it holds
Args: TypeAlias = tuple[Value, ...]


class Axes(tuple[int, ...]):
    """The axes of the classes, as one argument: torch.func would take a plain tuple apart."""

    __slots__ = ()


class Map(ABC):
    """What an operator is made of; a default for each part that most maps share."""

    schema: ClassVar[str]

    @staticmethod
    @abstractmethod
    def forward(*args: Value) -> Value:
        """Compute the map, without derivatives."""

    @staticmethod
    def fake(*args: Value) -> Value:
        """Give the shapes of the results."""
        return torch.empty_like(args[0])

    @staticmethod
    @abstractmethod
    def setup_context(ctx: Context, inputs: Args, output: Value) -> None:
        """Keep what the derivatives need."""

    @staticmethod
    @abstractmethod
    def backward(ctx: Context, *gradients: Value) -> Value:
        """Give the gradient of each argument."""


class Operator:
    """A map, ready to be called in any of the ways."""

    def __init__(self, rules: type[Map]) -> None:
        name = rules.schema.partition("(")[0]
        self.kernel = rules.forward
        self.vmap: Callable[..., Value] = _over_a_batch(self)
        parts: dict[str, Value] = {
            part: staticmethod(getattr(rules, part)) for part in ("backward", "jvp") if hasattr(rules, part)
        }
        functorch = {
            "forward": staticmethod(_without_out(rules)),
            "setup_context": staticmethod(rules.setup_context),
            "vmap": staticmethod(self.vmap),
        }
        self.under_transforms = _function(name, parts | functorch)
        # without setup_context autograd spends a third of the time
        self.for_autograd = _function(name, parts | {"forward": staticmethod(_with_context(rules))})
        LIBRARY.define(rules.schema)  # type: ignore[no-untyped-call]
        qualified = f"softmaxfam_rs::{name}"
        torch.library.impl(qualified, "default", rules.forward, lib=LIBRARY)
        torch.library.register_fake(qualified, rules.fake, lib=LIBRARY)
        torch.library.register_autograd(
            qualified, rules.backward, setup_context=_by_position(rules.setup_context), lib=LIBRARY
        )
        torch.library.register_vmap(qualified, self.vmap, lib=LIBRARY)
        self.registered = getattr(torch.ops.softmaxfam_rs, name).default

    def __call__(self, *args: Value) -> Value:
        """Call the map in the way that the surroundings ask for."""
        if is_compiling() or dispatch_modes() or is_abstract(args[0]):
            return self.registered(*args)
        if transforms_are_active():
            return self.under_transforms(*args[:-1], Axes(args[-1]))
        if is_differentiated(*args):
            return self.for_autograd(*args)
        return self.kernel(*args)


def _function(name: str, parts: dict[str, Value]) -> Callable[..., Value]:
    function: Value = type(name, (Function,), parts)
    return function.apply  # type: ignore[no-any-return]


def is_abstract(tensor: Tensor) -> bool:
    """Whether a tensor has a shape but no elements."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def is_in_forward_mode() -> bool:
    """Whether tensors may carry tangents."""
    return forward_ad._current_level >= 0  # noqa: SLF001  torch tells it by no other means


def is_differentiated(*args: Value) -> bool:
    """Whether autograd, in its reverse or forward mode, follows one of the arguments."""
    if is_in_forward_mode():
        return True
    return torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)


def save(ctx: Context, *tensors: Tensor | None) -> None:
    """Keep tensors for the derivatives."""
    ctx.save_for_backward(*tensors)
    if is_in_forward_mode():
        ctx.save_for_forward(*tensors)


def _with_context(rules: type[Map]) -> Callable[..., Value]:
    kernel, setup_context = rules.forward, rules.setup_context

    def forward(ctx: Context, *args: Value) -> Value:
        output = kernel(*args)
        setup_context(ctx, args, output)
        return output

    return forward


def _without_out(rules: type[Map]) -> Callable[..., Value]:
    """Hide the `out` of a kernel, for which torch.func would fill in the default."""

    def forward(*args: Value) -> Value:
        return rules.forward(*args)

    return forward


def _by_position(setup_context: Callable[..., None]) -> Callable[..., None]:
    def named(ctx: Context, inputs: Args, output: Value) -> None:
        setup_context(ctx, inputs, output)

    return named


def _over_a_batch(operator: Operator) -> Callable[..., Value]:
    """Make the rule of vmap: the batch becomes a further axis of rows, the first one."""

    def rule(info: Value, in_dims: Sequence[int | None], *args: Value) -> Value:
        scores, *rest, axes = args
        dim, *dims, _ = in_dims
        rank = scores.ndim - (dim is not None)
        batch = info.batch_size
        scores = scores.expand(batch, *scores.shape) if dim is None else scores.movedim(dim, 0)
        # a number for each example is a row of one class
        scores = scores.reshape(batch, *(scores.shape[1:] or (1,)))
        rows = [_beside(arg, dim, max(rank, 1)) for arg, dim in zip(rest, dims, strict=True)]
        axes = [axis % max(rank, 1) + 1 for axis in axes]
        results = operator(scores, *rows, axes)
        if rank:
            return results, (0 if isinstance(results, Tensor) else tuple(0 for _ in results))
        if isinstance(results, Tensor):
            return results.reshape(batch), 0
        return tuple(result.reshape(batch) for result in results), tuple(0 for _ in results)

    return rule


def _beside(arg: Value, dim: int | None, rank: int) -> Value:
    """View an argument so that it broadcasts against scores of this rank, its batch before all of their axes."""
    if dim is None:
        return arg
    arg = arg.movedim(dim, 0)
    return arg.reshape(arg.shape[0], *(1,) * (rank + 1 - arg.ndim), *arg.shape[1:])
