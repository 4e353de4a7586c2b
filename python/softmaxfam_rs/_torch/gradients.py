"""Vector-Jacobian products: by the compiled core where nothing follows them, else by formulas that torch can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C import _len_torch_dispatch_stack as dispatch_modes
from torch._C._functorch import is_legacy_batchedtensor
from torch.compiler import is_compiling

from . import formulas, native
from .arguments import Call
from .kernels import chosen, core, is_plain, per_row
from .operators import LIBRARY, Value, is_abstract, is_differentiated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Axes = Sequence[int]


class Product:
    """A vector-Jacobian product: by the core, by a formula that is differentiable, off the core by torch if it can."""

    def __init__(
        self,
        schema: str,
        kernel: Callable[..., Value],
        formula: Callable[..., Value],
        of_torch: Callable[..., Value] = lambda *_: None,
    ) -> None:
        name = schema.partition("(")[0]
        LIBRARY.define(schema)  # type: ignore[no-untyped-call]
        self.kernel, self.formula, self.of_torch = kernel, formula, of_torch
        qualified = f"softmaxfam_rs::{name}"
        torch.library.impl(qualified, "default", self._run, lib=LIBRARY)
        torch.library.register_fake(qualified, formula, lib=LIBRARY)
        self.registered = getattr(torch.ops.softmaxfam_rs, name).default

    def __call__(self, *args: Value) -> Value:
        """Compute the product in the way that the surroundings ask for."""
        if is_differentiated(*args):
            return self.formula(*args)
        if is_compiling() or dispatch_modes() or is_abstract(args[0]):
            return self.registered(*args)
        if transforms_are_active():
            return self.formula(*args)
        return self._run(*args)

    def _run(self, *args: Value) -> Value:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        # autograd's own vmap, behind is_grads_batched, is none of the active transforms
        if any(map(is_legacy_batchedtensor, tensors)):
            return self.formula(*args)
        if all(map(is_plain, tensors)):
            return self.kernel(*args)
        result = self.of_torch(*args)
        return self.formula(*args) if result is None else result


OF_SOFTMAX = Product(
    "softmax_vjp(Tensor p, Tensor g, Tensor? temperatures, float temperature, int[] axes) -> Tensor",
    lambda p, g, rows, number, axes: core.softmax_vjp(p, g, axes, per_row(rows, number)),
    lambda p, g, rows, number, axes: formulas.softmax_vjp(p, g, axes, chosen(rows, number)),
    native.softmax_vjp,
)
OF_LOG_SOFTMAX = Product(
    "log_softmax_vjp(Tensor log_p, Tensor g, Tensor? temperatures, float temperature, int[] axes) -> Tensor",
    lambda log_p, g, rows, number, axes: core.log_softmax_vjp(log_p, g, axes, per_row(rows, number)),
    lambda log_p, g, rows, number, axes: formulas.log_softmax_vjp(log_p, g, axes, chosen(rows, number)),
    native.log_softmax_vjp,
)
OF_LOGSUMEXP = Product(
    "logsumexp_vjp(Tensor scores, Tensor lse, Tensor g, Tensor? where, Tensor? temperatures, float temperature, "
    "int[] axes) -> Tensor",
    lambda x, lse, g, where, rows, number, axes: core.logsumexp_vjp(x, lse, g, axes, where, per_row(rows, number)),
    lambda x, lse, g, where, rows, number, _: formulas.logsumexp_vjp(x, lse, g, where, chosen(rows, number)),
    native.logsumexp_vjp,
)
OF_ENTMAX = Product(
    "entmax_vjp(Tensor p, Tensor g, Tensor? alphas, float alpha, Tensor? temperatures, float temperature, int[] axes) "
    "-> Tensor",
    lambda p, g, rows, alpha, temperatures, temperature, axes: core.entmax_vjp(
        p, g, per_row(rows, alpha), axes[0], per_row(temperatures, temperature)
    ),
    lambda p, g, rows, alpha, temperatures, temperature, axes: formulas.entmax_vjp(
        p, g, chosen(rows, alpha), axes, chosen(temperatures, temperature)
    ),
)
OF_ALPHA = Product(
    "entmax_alpha_grad(Tensor p, Tensor g, Tensor? alphas, float alpha, int[] axes) -> Tensor",
    lambda p, g, rows, alpha, axes: core.entmax_alpha_grad(p, g, per_row(rows, alpha), axes[0]).reshape(
        _with_one_class(p, axes)
    ),
    lambda p, g, rows, alpha, axes: formulas.entmax_alpha_grad(p, g, chosen(rows, alpha), axes),
)


def _with_one_class(p: Tensor, axes: Axes) -> list[int]:
    shape = list(p.shape)
    for axis in axes if shape else ():
        shape[axis] = 1
    return shape


def softmax_vjp(p: Tensor, g: Tensor, /, *, axis: int | Sequence[int] | None = -1) -> Value:
    """Gradient of softmax."""
    call = Call(p, axis, several=True, name="p")
    return OF_SOFTMAX(call.scores, call.same("g", g), None, 1.0, call.axes)


def log_softmax_vjp(log_p: Tensor, g: Tensor, /, *, axis: int | Sequence[int] | None = -1) -> Value:
    """Gradient of log_softmax."""
    call = Call(log_p, axis, several=True, name="log_p")
    return OF_LOG_SOFTMAX(call.scores, call.same("g", g), None, 1.0, call.axes)


def logsumexp_vjp(scores: Tensor, lse: Tensor, g: Tensor, /, *, axis: int | Sequence[int] | None = -1) -> Value:
    """Gradient of logsumexp."""
    call = Call(scores, axis, several=True)
    shape = _with_one_class(call.scores, call.axes)
    lse, g = (call.same(name, given).reshape(shape) for name, given in (("lse", lse), ("g", g)))
    return OF_LOGSUMEXP(call.scores, lse, g, None, None, 1.0, call.axes)


def entmax_vjp(p: Tensor, g: Tensor, /, alpha: Tensor | float, *, axis: int = -1) -> Value:
    """Gradient of entmax with respect to the scores."""
    call = Call(p, axis, name="p")
    return OF_ENTMAX(call.scores, call.same("g", g), *call.parameter("alpha", alpha), None, 1.0, call.axes)


def entmax_alpha_grad(p: Tensor, g: Tensor, /, alpha: Tensor | float, *, axis: int = -1) -> Value:
    """Gradient of entmax with respect to alpha."""
    call = Call(p, axis, name="p")
    result = OF_ALPHA(call.scores, call.same("g", g), *call.parameter("alpha", alpha), call.axes)
    return result.squeeze(call.axes[0])
