"""The types of the public functions: an array of a library in, an array of that library out.

A decorator gives a function its type. At run time it returns the function itself; to a type checker the function takes

1. an array of NumPy with a real dtype, and gives one of that dtype;
2. another array of NumPy, a number or a sequence, and gives an array of NumPy;
3. an array of another library, and gives what arithmetic on it gives: a `torch.Tensor` for a `torch.nn.Parameter`;

with the options that are in its signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypedDict, Unpack, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import TypeVar  # with defaults: a checker knows them, Python from 3.13

    from ._results import SparseRows, Threshold, TopK

    Floats = TypeVar("Floats", bound=np.floating[Any])
    A = TypeVar("A", default=Any)
    Ids = TypeVar("Ids", default=Any)
    A_co = TypeVar("A_co", covariant=True)
else:
    from typing import TypeVar

    A = TypeVar("A")
    Ids = TypeVar("Ids")
    A_co = TypeVar("A_co", covariant=True)

P = ParamSpec("P")
Array: TypeAlias = Any  # within the package: an array of any library, or what NumPy makes one of
Reduction: TypeAlias = Literal["mean", "sum", "none"]
Axes: TypeAlias = int | tuple[int, ...] | None
NumPyLike: TypeAlias = "NDArray[Any] | np.generic | float | Sequence[Any]"
AnyArray: TypeAlias = "NumPyLike | OfLibrary[Any]"


class OfLibrary(Protocol[A_co]):
    """An array of any library, on which arithmetic gives an A."""

    @property
    def shape(self) -> Any: ...  # noqa: ANN401  each library has its own type
    @property
    def dtype(self) -> Any: ...  # noqa: ANN401
    def __neg__(self) -> A_co: ...


class ArrayFunction(Protocol[P]):
    """A function from an array to an array."""

    @overload
    def __call__(self, array: NDArray[Floats], /, *args: P.args, **kwargs: P.kwargs) -> NDArray[Floats]: ...
    @overload
    def __call__(self, array: NumPyLike, /, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...
    @overload
    def __call__(self, array: OfLibrary[A], /, *args: P.args, **kwargs: P.kwargs) -> A: ...


class TopKFunction(Protocol[P]):
    """A function from an array to a `TopK`."""

    @overload
    def __call__(
        self, array: NDArray[Floats], /, *args: P.args, **kwargs: P.kwargs
    ) -> TopK[NDArray[Floats], NDArray[np.int64]]: ...
    @overload
    def __call__(
        self, array: NumPyLike, /, *args: P.args, **kwargs: P.kwargs
    ) -> TopK[NDArray[Any], NDArray[np.int64]]: ...
    @overload
    def __call__(self, array: OfLibrary[A], /, *args: P.args, **kwargs: P.kwargs) -> TopK[A, A]: ...


class ThresholdFunction(Protocol[P]):
    """A function from an array to a `Threshold`."""

    @overload
    def __call__(
        self, array: NDArray[Floats], /, *args: P.args, **kwargs: P.kwargs
    ) -> Threshold[NDArray[Floats], NDArray[np.int64]]: ...
    @overload
    def __call__(
        self, array: NumPyLike, /, *args: P.args, **kwargs: P.kwargs
    ) -> Threshold[NDArray[Any], NDArray[np.int64]]: ...
    @overload
    def __call__(self, array: OfLibrary[A], /, *args: P.args, **kwargs: P.kwargs) -> Threshold[A, A]: ...


class SparseRowsFunction(Protocol[P]):
    """A function from an array to `SparseRows`."""

    @overload
    def __call__(
        self, array: NDArray[Floats], /, *args: P.args, **kwargs: P.kwargs
    ) -> SparseRows[NDArray[Floats], NDArray[np.int64]]: ...
    @overload
    def __call__(
        self, array: NumPyLike, /, *args: P.args, **kwargs: P.kwargs
    ) -> SparseRows[NDArray[Any], NDArray[np.int64]]: ...
    @overload
    def __call__(self, array: OfLibrary[A], /, *args: P.args, **kwargs: P.kwargs) -> SparseRows[A, A]: ...


class LossAndGrad(Protocol[P]):
    """A function from an array to a loss and its gradient."""

    @overload
    def __call__(
        self, array: NDArray[Floats], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[NDArray[Floats], NDArray[Floats]]: ...
    @overload
    def __call__(self, array: NumPyLike, /, *args: P.args, **kwargs: P.kwargs) -> tuple[NDArray[Any], NDArray[Any]]: ...
    @overload
    def __call__(self, array: OfLibrary[A], /, *args: P.args, **kwargs: P.kwargs) -> tuple[A, A]: ...


class LossOptions(TypedDict, total=False):
    """The options of losses with sparse gradients, but the one that decides what they return."""

    margin: float
    axis: int
    where: AnyArray | None
    weight: AnyArray | None
    ignore_index: int | None
    label_smoothing: float
    reduction: Reduction
    temperature: AnyArray


class LossAndSparseGrad(Protocol):
    """A function from an array to a loss and its gradient: `SparseRows` with `sparse_grad`."""

    @overload
    def __call__(
        self,
        array: NDArray[Floats],
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[False] = ...,
        **options: Unpack[LossOptions],
    ) -> tuple[NDArray[Floats], NDArray[Floats]]: ...
    @overload
    def __call__(
        self,
        array: NDArray[Floats],
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[True],
        **options: Unpack[LossOptions],
    ) -> tuple[NDArray[Floats], SparseRows[NDArray[Floats], NDArray[np.int64]]]: ...
    @overload
    def __call__(
        self,
        array: NumPyLike,
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[False] = ...,
        **options: Unpack[LossOptions],
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...
    @overload
    def __call__(
        self,
        array: NumPyLike,
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[True],
        **options: Unpack[LossOptions],
    ) -> tuple[NDArray[Any], SparseRows[NDArray[Any], NDArray[np.int64]]]: ...
    @overload
    def __call__(
        self,
        array: OfLibrary[A],
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[False] = ...,
        **options: Unpack[LossOptions],
    ) -> tuple[A, A]: ...
    @overload
    def __call__(
        self,
        array: OfLibrary[A],
        target: AnyArray,
        /,
        alpha: AnyArray = ...,
        *,
        sparse_grad: Literal[True],
        **options: Unpack[LossOptions],
    ) -> tuple[A, SparseRows[A, A]]: ...


class ReductionOptions(TypedDict, total=False):
    """The options of `logsumexp` that do not decide what it returns."""

    axis: Axes
    keepdims: bool
    where: AnyArray | None
    weights: AnyArray | None
    temperature: AnyArray
    out: AnyArray | None


class SignedReduction(Protocol):
    """`logsumexp`: with `return_sign` a pair."""

    @overload
    def __call__(
        self, array: NDArray[Floats], /, *, return_sign: Literal[False] = ..., **options: Unpack[ReductionOptions]
    ) -> NDArray[Floats]: ...
    @overload
    def __call__(
        self, array: NDArray[Floats], /, *, return_sign: Literal[True], **options: Unpack[ReductionOptions]
    ) -> tuple[NDArray[Floats], NDArray[Floats]]: ...
    @overload
    def __call__(
        self, array: NumPyLike, /, *, return_sign: Literal[False] = ..., **options: Unpack[ReductionOptions]
    ) -> NDArray[Any]: ...
    @overload
    def __call__(
        self, array: NumPyLike, /, *, return_sign: Literal[True], **options: Unpack[ReductionOptions]
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...
    @overload
    def __call__(
        self, array: OfLibrary[A], /, *, return_sign: Literal[False] = ..., **options: Unpack[ReductionOptions]
    ) -> A: ...
    @overload
    def __call__(
        self, array: OfLibrary[A], /, *, return_sign: Literal[True], **options: Unpack[ReductionOptions]
    ) -> tuple[A, A]: ...


def array_function(function: Callable[Concatenate[Any, P], Any], /) -> ArrayFunction[P]:
    """Give a function its type: an array of the library of its first argument."""
    return function


def top_k_function(function: Callable[Concatenate[Any, P], TopK], /) -> TopKFunction[P]:
    """Give a function its type: a `TopK` of arrays of the library of its first argument."""
    return function


def threshold_function(function: Callable[Concatenate[Any, P], Threshold], /) -> ThresholdFunction[P]:
    """Give a function its type: a `Threshold` of arrays of the library of its first argument."""
    return function


def sparse_rows_function(function: Callable[Concatenate[Any, P], SparseRows], /) -> SparseRowsFunction[P]:
    """Give a function its type: `SparseRows` of arrays of the library of its first argument."""
    return function


def loss_and_grad_function(function: Callable[Concatenate[Any, P], Any], /) -> LossAndGrad[P]:
    """Give a function its type: a loss and a gradient of the library of its first argument."""
    return function


def loss_and_sparse_grad_function(function: Callable[..., Any], /) -> LossAndSparseGrad:
    """Give a function its type: a loss, and a gradient that is dense or sparse."""
    return function


def signed_reduction(function: Callable[..., Any], /) -> SignedReduction:
    """Give `logsumexp` its type."""
    return function
