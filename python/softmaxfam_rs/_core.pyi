# Kernels on NumPy arrays; internal. Arguments by position, no defaults: see the functions of the package.

from collections.abc import Callable
from typing import Any, TypeAlias, final

from numpy.typing import NDArray

__all__ = [
    "EntmaxState",
    "Head",
    "Proposal",
    "ScoreState",
    "SkipGram",
    "__version__",
    "adopt",
    "budget_sparsemax",
    "entmax",
    "entmax_alpha_grad",
    "entmax_sparse",
    "entmax_threshold",
    "entmax_vjp",
    "get_num_threads",
    "gram",
    "huffman",
    "isa",
    "isa_available",
    "linear_loss",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "loss",
    "normmax",
    "quantize",
    "sample_scores",
    "sampled_loss",
    "set_num_threads",
    "softmax",
    "softmax_vjp",
    "solve_rows",
    "top_log_probs",
    "tree_log_probs",
    "tree_loss",
    "tree_parents",
    "tree_path_lengths",
    "tree_top",
    "tsallis_entropy",
    "weighted_logsumexp",
]

__version__: str

_Array: TypeAlias = NDArray[Any]
_Axes: TypeAlias = int | tuple[int, ...] | None
_PerRow: TypeAlias = float | _Array
_Maker: TypeAlias = Callable[..., object]

def softmax(scores: object, axis: _Axes, present: object, temperature: _PerRow, out: _Array | None, /) -> _Array: ...
def log_softmax(
    scores: object, axis: _Axes, present: object, temperature: _PerRow, out: _Array | None, /
) -> _Array: ...
def entmax(
    scores: object, alpha: _PerRow, axis: int, present: object, temperature: _PerRow, out: _Array | None, /
) -> _Array: ...
def normmax(
    scores: object, alpha: _PerRow, axis: int, present: object, temperature: _PerRow, out: _Array | None, /
) -> _Array: ...
def budget_sparsemax(
    scores: object, budget: _PerRow, axis: int, present: object, temperature: _PerRow, out: _Array | None, /
) -> _Array: ...
def logsumexp(
    scores: object, axis: _Axes, keepdims: bool, present: object, temperature: _PerRow, out: _Array | None, /
) -> _Array: ...
def weighted_logsumexp(
    scores: object,
    weights: object,
    axis: _Axes,
    keepdims: bool,
    return_sign: bool,
    present: object,
    temperature: _PerRow,
    out: _Array | None,
    /,
) -> tuple[_Array, _Array | None]: ...
def tsallis_entropy(p: object, alpha: _PerRow, axis: int, /) -> _Array: ...
def top_log_probs(
    scores: object, k: int, axis: int, present: object, temperature: _PerRow, /
) -> tuple[_Array, _Array, _Array]: ...
def entmax_threshold(
    scores: object, alpha: _PerRow, axis: int, present: object, temperature: _PerRow, /
) -> tuple[_Array, _Array, _Array]: ...
def entmax_sparse(
    scores: object, alpha: _PerRow, axis: int, present: object, temperature: _PerRow, max_support: int | None, /
) -> tuple[tuple[_Array, _Array, _Array], tuple[int, int]]: ...
def softmax_vjp(p: object, g: object, axis: _Axes, temperature: _PerRow, /) -> _Array: ...
def log_softmax_vjp(log_p: object, g: object, axis: _Axes, temperature: _PerRow, /) -> _Array: ...
def logsumexp_vjp(
    scores: object, lse: object, g: object, axis: _Axes, present: object, temperature: _PerRow, /
) -> _Array: ...
def entmax_vjp(p: object, g: object, alpha: _PerRow, axis: int, temperature: _PerRow, /) -> _Array: ...
def entmax_alpha_grad(p: object, g: object, alpha: _PerRow, axis: int, /) -> _Array: ...
def adopt(class_: type, exchange: object, capsule: _Maker, like: _Maker, empty: _Maker, /) -> None: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def isa_available() -> list[str]: ...

_Place: TypeAlias = tuple[int, int, int]

@final
class Proposal:
    @staticmethod
    def alias(weights: _Array, power: float, /) -> Proposal: ...
    @staticmethod
    def of_slots(slots: _Array, /) -> Proposal: ...
    @staticmethod
    def uniform(classes: int, /) -> Proposal: ...
    @staticmethod
    def log_uniform(classes: int, /) -> Proposal: ...
    def slots(self) -> _Array: ...
    def classes(self) -> int: ...
    def positive(self) -> int: ...
    def nbytes(self) -> int: ...
    def logq(self, ids: _Array, /) -> _Array: ...
    def sample(
        self,
        place: _Place,
        shape: tuple[int, ...],
        narrow: bool,
        ids: _Array | None,
        with_logq: bool,
        logq: _Array | None,
        exclude: _Array | None,
        /,
    ) -> tuple[_Array, _Array | None]: ...
    def sample_unique(
        self,
        place: _Place,
        shape: tuple[int, ...],
        narrow: bool,
        ids: _Array | None,
        logq: _Array | None,
        exclude: _Array | None,
        /,
    ) -> tuple[_Array, _Array, _Array, _Array]: ...

def sample_scores(
    scores: object, m: int, axis: int, present: object, temperature: _PerRow, place: _Place, unique: bool, /
) -> tuple[_Array, _Array, _Array | None]: ...
def huffman(counts: _Array, /) -> _Array: ...
def tree_parents(merges: _Array, /) -> _Array: ...
def tree_path_lengths(parents: _Array, /) -> _Array: ...
def tree_loss(
    nodes: tuple[_Array, _Array | None, _Array],
    h: _Array,
    target: _Array,
    ignored: int | None,
    factors: _Array | None,
    of_h: _Array | None,
    touches: bool,
    /,
) -> tuple[_Array, tuple[_Array, _Array, _Array] | None]: ...
def sampled_loss(
    h: _Array,
    weight: _Array,
    classes: tuple[_Array, _Array, _Array, _Array],
    numbers: tuple[bool, bool, float],
    factors: _Array | None,
    of_h: _Array | None,
    touches: bool,
    /,
) -> tuple[_Array, tuple[_Array, _Array, _Array] | None]: ...
def tree_log_probs(nodes: tuple[_Array, _Array | None, _Array], h: _Array, /) -> _Array: ...
def tree_top(
    nodes: tuple[_Array, _Array | None, _Array], merges: _Array, h: _Array, k: int, /
) -> tuple[_Array, _Array]: ...
def linear_loss(
    h: _Array,
    weight: _Array,
    bias: _Array | None,
    target: _Array,
    present: _Array | None,
    class_weight: _Array | None,
    factor: _Array | None,
    numbers: tuple[str, float, float, int | None, float, bool],
    into: tuple[_Array | None, _Array | None, _Array | None, bool],
    /,
) -> tuple[float, _Array, tuple[_Array, _Array] | None]: ...
def loss(
    kind: str,
    scores: object,
    target: object,
    parameter: _PerRow,
    axis: int,
    present: object,
    temperature: _PerRow,
    weight: object,
    ignored: int | None,
    smoothing: float,
    reduction: str,
    factor: _PerRow,
    gradient: str,
    /,
) -> object: ...

_Three: TypeAlias = tuple[_Array, _Array, _Array]
_Scored: TypeAlias = tuple[_Array, _Array, _Array, _Array | None]
_Asking: TypeAlias = tuple[int, _Array | None, _Array | None, tuple[_Array, _Array] | None]

def quantize(weight: _Array, /) -> _Three: ...

@final
class Head:
    def __new__(
        cls, weight: _Array, scales: _Array | None, bias: _Array | None, temperature: float, first_class: int, /
    ) -> Head: ...
    def score(self, queries: _Array, asking: _Asking, /) -> _Scored: ...
    def score_exactly(
        self, queries: _Array, asking: _Asking, exact: _Array, lost: _Array, kept: _Array, /
    ) -> tuple[_Scored, _Array]: ...
    def partial(self, queries: _Array, asking: _Asking, /) -> ScoreState: ...
    def entmax_partial(self, queries: _Array, alpha: float, asking: _Asking, /) -> EntmaxState: ...
    def logits(self, queries: _Array, asking: _Asking, out: _Array | None, /) -> _Array: ...
    def sample(
        self, queries: _Array, m: int, asking: _Asking, place: tuple[int, int, int], unique: bool, /
    ) -> tuple[_Array, _Array, _Array | None]: ...

@final
class ScoreState:
    def merge(self, other: ScoreState, /) -> ScoreState: ...
    def finish(self) -> _Scored: ...
    def queries(self) -> int: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes, /) -> ScoreState: ...

@final
class EntmaxState:
    def merge(self, other: EntmaxState, /) -> EntmaxState: ...
    def finish(self, max_support: int | None, /) -> _Three: ...
    def queries(self) -> int: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes, /) -> EntmaxState: ...

def gram(rows: _Array, weights: _Array | None, /) -> tuple[_Array, _Array]: ...
def solve_rows(
    starts: _Array,
    columns: _Array,
    factors: _Array,
    side: tuple[_Array, _Array, float, float, bool],
    solved: _Array,
    /,
) -> _Array: ...

@final
class SkipGram:
    BLOCK: int
    def __new__(
        cls,
        counts: _Array,
        objective: str,
        width: int,
        window: int,
        negatives: int,
        power: float,
        sample: float,
        seed: int,
        /,
    ) -> SkipGram: ...
    def train(
        self,
        text: _Array,
        first: int,
        end: int,
        epoch: int,
        epochs: int,
        rates: tuple[float, float],
        limit: float,
        /,
    ) -> tuple[int, float]: ...
    def vectors(self) -> tuple[_Array, _Array]: ...
