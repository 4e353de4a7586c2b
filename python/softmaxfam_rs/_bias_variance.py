"""What a sampled loss costs: bias and variance of its value and gradient, exact or by draws, beside their theory.

Of draws with replacement the classes drawn are a multiset, with multinomial probabilities: where those are few, all are
gone through. Else draws are repeated, and |bias|^2 is freed of what their noise adds: E|mean - g|^2 = |bias|^2 + V / R
of R draws with the total variance V.

Theory, to leading order in 1/m, by the delta method, with the softmax p and the law q: r = (e_x - p) p_x / q_x of a
draw x, under "negatives" only of x that are not the target; V = (E|r|^2 - |E r|^2) / m. The losses of noise-contrastive
estimation and negative sampling are sums over draws, so theirs is exact.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ._drawn import treatment
from ._exponential import logsumexp, softmax
from ._sampled_losses import (
    nce_loss_and_grad,
    negative_sampling_loss_and_grad,
    sampled_softmax_loss_and_grad,
)
from ._samplers import AliasTable
from ._streams import as_stream
from ._transfer import to_host, to_integers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._sampled_losses import Correction
    from ._samplers import Rng
    from ._streams import Stream
    from ._typing import Array

    Numbers = NDArray[np.float64]

KINDS = ("sampled_softmax", "nce", "negative_sampling")
MULTISETS = 50_000  # so many are gone through, at most
BLOCK = 1 << 21  # numbers of gradients that are held at a time


@dataclass(frozen=True)
class BiasVariance:
    """Bias and variance of a sampled loss against the softmax loss, a row for each number of negatives.

    Of several rows of scores each number is the mean, or for the gradient the root of the mean square.

    Attributes
    ----------
    title : str
        The loss.
    m : array of int
        Numbers of negatives.
    method : tuple of str
        "exact" or "draws".
    loss_bias, loss_std : array
        E L - L of the exact loss L, and the standard deviation of the loss. NaN for losses that estimate another one.
    loss_bias_error : array
        The standard error of `loss_bias`; 0 where it is exact.
    gradient_bias, gradient_std, gradient_error : array
        |E g - (p - y)|, the root of the total variance of g, and that of E|g - (p - y)|^2, whose square is the sum of
        the other two squares.
    gradient_bias_error : array
        By how much draws move the mean gradient.
    theory_loss_bias, theory_gradient_bias, theory_gradient_std : array
        To leading order in 1/m; exact for nce and negative sampling. NaN where there is none.
    """

    title: str
    m: NDArray[np.int64]
    method: tuple[str, ...]
    loss_bias: Numbers
    loss_bias_error: Numbers
    loss_std: Numbers
    gradient_bias: Numbers
    gradient_bias_error: Numbers
    gradient_std: Numbers
    gradient_error: Numbers
    theory_loss_bias: Numbers
    theory_gradient_bias: Numbers
    theory_gradient_std: Numbers

    def __len__(self) -> int:
        return len(self.m)

    def __str__(self) -> str:
        columns = self.to_dict()
        texts = [[name, *map(_text, column)] for name, column in columns.items()]
        widths = [max(map(len, column)) for column in texts]
        lines = [
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            for row in zip(*texts, strict=True)
        ]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        columns = self.to_dict()
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = zip(*(map(_text, column) for column in columns.values()), strict=True)
        body = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in rows)
        return f"<table><caption>{self.title}</caption><tr>{head}</tr>{body}</table>"

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by their names.

        Examples
        --------
        >>> import softmaxfam_rs as sf
        >>> table = sf.estimate_bias_variance("nce", [0.0, -1.0], 0, sf.UniformSampler(2), 1)
        >>> table.to_dict()["m"]
        [1]
        """
        names = [field.name for field in fields(self) if field.name != "title"]
        return {name: np.asarray(getattr(self, name)).tolist() for name in names}

    def to_pandas(self) -> Any:  # noqa: ANN401  pandas is optional
        """Return a `pandas.DataFrame`."""
        import pandas as pd  # noqa: PLC0415  optional, and slow to import

        return pd.DataFrame(self.to_dict())

    def plot(self, ax: Any = None) -> Any:  # noqa: ANN401  of matplotlib, which is optional
        """Draw bias and standard deviation of the gradient against m, with their theory dashed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure without.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ModuleNotFoundError
            Without matplotlib, which comes with ``pip install softmaxfam-rs[plot]``.
        """
        if ax is None:
            try:
                from matplotlib.figure import Figure  # noqa: PLC0415  optional, and slow to import
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError("plot needs matplotlib; pip install softmaxfam-rs[plot]") from error
            ax = Figure(figsize=(6, 4), layout="constrained").add_subplot()
        for name, colour in (("gradient_bias", "C0"), ("gradient_std", "C1")):
            ax.errorbar(self.m, getattr(self, name), self.gradient_bias_error, fmt="o", color=colour, label=name)
            ax.plot(self.m, getattr(self, f"theory_{name}"), "--", color=colour)
        ax.set(xscale="log", yscale="log", xlabel="m", title=self.title)
        ax.legend()
        return ax


def _text(value: Any) -> str:  # noqa: ANN401
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Loss(NamedTuple):
    """A loss of one row: which, of which scores, and the law of its negatives."""

    kind: str
    correction: Correction
    removes_hits: bool
    scores: Numbers  # over T
    target: int
    log_q: Numbers

    def of(self, ids: NDArray[np.int64], chances: tuple[Numbers, Numbers] | None = None) -> tuple[Numbers, Numbers]:
        """Return losses and their gradients by all scores, for rows of negatives; distinct ones with chances."""
        count, m = ids.shape
        positive, negative = np.full(count, self.scores[self.target]), self.scores[ids]
        logs = (np.full(count, self.log_q[self.target]), self.log_q[ids])
        if chances is not None:
            logs = (np.log(chances[0]) - math.log(m), np.log(chances[1]) - math.log(m))
        options: Any = {"hits": ids == self.target if self.removes_hits else None, "reduction": "none"}
        if self.kind == "sampled_softmax":
            losses, parts = sampled_softmax_loss_and_grad(
                positive, negative, *logs, correction=self.correction, **options
            )
            if self.correction == "all":  # a constant of the target, beside what estimates the loss
                losses = losses - math.log(m) - logs[0]
        elif self.kind == "nce":
            losses, parts = nce_loss_and_grad(positive, negative, *logs, **options)
        else:
            losses, parts = negative_sampling_loss_and_grad(positive, negative, **options)
        gradients = np.zeros((count, len(self.scores)))
        np.add.at(gradients, (np.arange(count)[:, None], ids), parts.negative)
        gradients[:, self.target] += parts.positive
        return np.asarray(losses), gradients

    def exact(self) -> tuple[float, Numbers]:
        """Return the softmax loss and its gradient."""
        gradient = np.asarray(softmax(self.scores))
        gradient[self.target] -= 1
        return float(logsumexp(self.scores) - self.scores[self.target]), gradient

    def nothing(self) -> tuple[float, Numbers, float]:
        """Return a theory of nothing."""
        return math.nan, np.full(len(self.scores), math.nan), math.nan

    def theory(self, m: int) -> tuple[float, Numbers, float]:
        """Return the bias of the loss, that of the gradient, and its total variance; NaN where there is none."""
        s, y, q = self.scores, self.target, np.exp(self.log_q)
        is_target = np.arange(len(s)) == y
        if self.kind != "sampled_softmax":
            shift = self.log_q + math.log(m) if self.kind == "nce" else np.zeros(len(s))
            up, down = _sigmoid(s - shift), _sigmoid(shift - s)
            if self.removes_hits:
                q = np.where(is_target, 0.0, q)
            mean = m * q * up - is_target * down
            return math.nan, mean - self.exact()[1], float(m * (q * up**2).sum() - m * ((q * up) ** 2).sum())
        if self.correction == "none" or self.removes_hits != (self.correction != "all"):
            return self.nothing()
        p = np.asarray(softmax(s))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(p > 0, p / q, 0.0)
        if self.correction == "all":
            own, chi = ratio[y], (p * ratio).sum()
            bias = own * (is_target - p) - p * (ratio - chi)
            second = (p * ratio * (1 - 2 * p + (p**2).sum())).sum()
            return float((own - (chi - 1) / 2) / m), bias / m, float(second / m)
        others = np.where(is_target, 0.0, p)
        left = others.sum()
        spread = (others * ratio).sum() - left**2
        bias = np.where(is_target, p * spread, p * (spread + left - ratio))
        mean = others - left * p
        second = (others * ratio * (1 - 2 * p + (p**2).sum())).sum()
        of_loss = -spread / 2 if self.correction == "negatives" else math.nan
        return float(of_loss / m), bias / m, float((second - (mean**2).sum()) / m)


def _sigmoid(x: Numbers) -> Numbers:
    return np.exp(-np.logaddexp(0, -x))


def _multisets(log_q: Numbers, m: int) -> tuple[NDArray[np.int64], Numbers] | None:
    """Return all multisets of m classes and their probabilities, or nothing if they are too many."""
    classes = np.flatnonzero(np.isfinite(log_q)).tolist()
    if math.comb(len(classes) + m - 1, m) > MULTISETS:
        return None
    ids = np.array(list(itertools.combinations_with_replacement(classes, m)), np.int64).reshape(-1, m)
    counts = np.zeros((len(ids), len(log_q)), np.int64)
    np.add.at(counts, (np.arange(len(ids))[:, None], ids), 1)
    factorials = np.array([math.lgamma(count + 1) for count in range(m + 1)])
    logs = log_q[ids].sum(axis=1) + factorials[m] - factorials[counts].sum(axis=1)
    return ids, np.exp(logs)


class _Moments:
    """Sums over draws, with weights that sum to 1."""

    def __init__(self, loss: float, gradient: Numbers) -> None:
        self.loss, self.gradient = loss, gradient
        self.weight = self.of_loss = self.of_loss_square = self.of_square = 0.0
        self.mean = np.zeros(len(gradient))

    def add(self, losses: Numbers, gradients: Numbers, weights: Numbers) -> None:
        away = losses - self.loss
        self.weight += float(weights.sum())
        self.of_loss += float(weights @ away)
        self.of_loss_square += float(weights @ away**2)
        away_gradient = gradients - self.gradient
        self.mean += weights @ away_gradient
        self.of_square += float(weights @ np.einsum("rn,rn->r", away_gradient, away_gradient))

    def found(self, replicates: int | None) -> Numbers:
        """Return loss bias, its variance, squares of gradient bias, its noise and total variance."""
        bias, mean = self.of_loss / self.weight, self.mean / self.weight
        variance = max(0.0, self.of_loss_square / self.weight - bias**2)
        square = float(mean @ mean)
        total = max(0.0, self.of_square / self.weight - square)
        if replicates is None:
            return np.array([bias, variance, square, 0.0, total, 0.0])
        unbiased = replicates / (replicates - 1)
        total *= unbiased
        return np.array(
            [bias, variance * unbiased, square - total / replicates, total / replicates, total, variance / replicates]
        )


def _draw(
    moments: _Moments,
    one: _Loss,
    proposal: Any,  # noqa: ANN401
    m: int,
    replicates: int,
    stream: Stream,
    *,
    unique: bool,
) -> None:
    """Add so many draws."""
    step = max(1, BLOCK // max(m, len(one.scores)))
    for first in range(0, replicates, step):
        count = min(step, replicates - first)
        samples = proposal.sample((count, m), rng=stream, unique=unique)
        ids, chances = np.asarray(samples.ids), None
        if unique:
            tries = np.asarray(samples.tries)
            of_target = proposal.expected_count(np.full(count, one.target), tries)
            chances = (of_target.astype(np.float64), proposal.expected_count(ids, tries[:, None]).astype(np.float64))
        losses, gradients = one.of(ids, chances)
        moments.add(losses, gradients, np.full(count, 1 / replicates))


def _enumerate(moments: _Moments, one: _Loss, ids: NDArray[np.int64], chances: Numbers) -> None:
    """Add all multisets."""
    step = max(1, BLOCK // max(ids.shape[1], len(one.scores)))
    for first in range(0, len(ids), step):
        part = slice(first, first + step)
        moments.add(*one.of(ids[part]), chances[part])


def _rows(
    loss: str,
    scores: Array,
    target: Array,
    proposal: Any,  # noqa: ANN401
    temperature: float,
    correction: Correction,
    *,
    removes_hits: bool,
) -> list[_Loss]:
    """Check what was given; return the loss of each row."""
    if loss not in KINDS:
        raise ValueError(f"loss is {loss!r}, must be one of {', '.join(map(repr, KINDS))}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}, must be > 0 and finite")
    rows = np.atleast_2d(to_host("scores", scores)).astype(np.float64) / temperature
    labels = np.atleast_1d(to_integers("target", target))
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or not labels.size:  # noqa: PLR2004  rows and classes
        raise ValueError(f"target has shape {labels.shape}, must have a class for each row of scores, {rows.shape}")
    classes = rows.shape[1]
    if not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"target holds {labels.max()}, must lie in [0, {classes - 1}]")
    if len(proposal) != classes:
        raise ValueError(f"sampler has {len(proposal)} classes, must have {classes}, as scores has")
    log_q = np.asarray(proposal.logq(np.arange(classes)), np.float64)
    log_q -= logsumexp(log_q)  # float32 of a sampler
    pairs = zip(rows, labels, strict=True)
    return [_Loss(loss, correction, removes_hits, row, int(label), log_q) for row, label in pairs]


def _append(columns: dict[str, list[float]], found: Numbers, theory: list[Any], *, is_value: bool) -> None:
    """Add a row: means over rows of scores."""
    bias, variance, square, noise, total, of_loss = found.mean(axis=0)
    square = max(0.0, square)
    columns["loss_bias"].append(float(bias) if is_value else math.nan)
    columns["loss_bias_error"].append(math.sqrt(of_loss / len(found)) if is_value else math.nan)
    columns["loss_std"].append(math.sqrt(variance))
    columns["gradient_bias"].append(math.sqrt(square))
    columns["gradient_bias_error"].append(math.sqrt(noise))
    columns["gradient_std"].append(math.sqrt(total))
    columns["gradient_error"].append(math.sqrt(square + total))
    losses, gradients, variances = zip(*theory, strict=True)
    columns["theory_loss_bias"].append(float(np.mean(losses)) if is_value else math.nan)
    columns["theory_gradient_bias"].append(math.sqrt(np.mean([g @ g for g in gradients])))
    columns["theory_gradient_std"].append(math.sqrt(np.mean(variances)))


def estimate_bias_variance(
    loss: Literal["sampled_softmax", "nce", "negative_sampling"],
    scores: Array,
    target: Array,
    sampler: Any,  # noqa: ANN401  of any law
    m: int | Sequence[int],
    /,
    *,
    correction: Correction = "all",
    remove_hits: bool | None = None,
    unique: bool = False,
    temperature: float = 1.0,
    method: Literal["auto", "exact", "draws"] = "auto",
    replicates: int = 2000,
    rng: Rng = 0,
) -> BiasVariance:
    """Compute what a loss from sampled negatives costs against the softmax loss: bias and variance, value and gradient.

    Parameters
    ----------
    loss : {"sampled_softmax", "nce", "negative_sampling"}
    scores : array, shape (n,) or (B, n)
        Scores of all classes, such as those of a model on a few examples; computed in float64.
    target : int or array of int, shape (B,)
        The class of each row.
    sampler : AliasTable, UniformSampler, LogUniformSampler, or array of probabilities of shape (n,)
        The law of the negatives.
    m : int or sequence of int
        Numbers of negatives: a row of the table each.
    correction, remove_hits, unique, temperature
        As for `sampled_softmax`: hits are treated by default as is right for the correction and the draws.
    method : {"auto", "exact", "draws"}, default "auto"
        "exact" goes through all multisets of negatives, up to 50,000; "auto" takes that where it can.
    replicates : int, default 2000
        Of draws, for each row: 2 or more.
    rng : int, Stream or numpy.random.Generator, default 0
        Of draws.

    Returns
    -------
    BiasVariance
        A table, to print, to take to pandas, or to plot.

    Raises
    ------
    ValueError
        For shapes or options that do not fit, or too many multisets for "exact".

    Notes
    -----
    Of "all" the constant log(m q(target)) is taken out of the value, which has no part in the gradient. Gradients are
    with respect to scores over T. Sources: Bengio, Senecal (2008), IEEE TNN 19; Blanc, Rendle (2018), arXiv:1712.00527;
    Gutmann, Hyvarinen (2012), JMLR 13.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> scores, q = np.array([2.0, 1.0, 0.0, -1.0]), [0.1, 0.2, 0.3, 0.4]
    >>> table = sf.estimate_bias_variance("sampled_softmax", scores, 0, q, [2, 8], correction="negatives")
    >>> table.method, bool((table.loss_bias < 0).all())
    (('exact', 'exact'), True)
    >>> bool(table.gradient_bias[1] < table.gradient_bias[0] / 3)
    True
    """
    if method not in {"auto", "exact", "draws"}:
        raise ValueError(f"method is {method!r}, must be 'auto', 'exact' or 'draws'")
    if unique and method == "exact":
        raise ValueError("method is 'exact' with unique=True, must be 'draws'; distinct draws are not enumerated")
    if replicates < 2:  # noqa: PLR2004  a variance needs them
        raise ValueError(f"replicates is {replicates}, must be 2 or more")
    numbers = [int(number) for number in np.atleast_1d(m)]
    if not numbers or min(numbers) < 1:
        raise ValueError(f"m is {m}, must be 1 or more")
    proposal = sampler if hasattr(sampler, "sample") else AliasTable(sampler)
    removes = treatment(loss, correction, unique=unique, remove_hits=remove_hits) if loss in KINDS else False
    rows = _rows(loss, scores, target, proposal, temperature, correction, removes_hits=removes)
    stream = as_stream(rng)
    columns: dict[str, list[float]] = {field.name: [] for field in fields(BiasVariance)[3:]}
    methods = []
    for count in numbers:
        multisets = None if unique or method == "draws" else _multisets(rows[0].log_q, count)
        if multisets is None and method == "exact":
            raise ValueError(
                f"method is 'exact' for {len(proposal)} classes and m = {count}, must be 'draws': "
                f"there are more than {MULTISETS} multisets"
            )
        found, theory = [], []
        for row in rows:
            moments = _Moments(*row.exact())
            if multisets is None:
                _draw(moments, row, proposal, count, replicates, stream, unique=unique)
            else:
                _enumerate(moments, row, *multisets)
            found.append(moments.found(replicates if multisets is None else None))
            theory.append(row.nothing() if unique else row.theory(count))
        methods.append("draws" if multisets is None else "exact")
        _append(columns, np.array(found), theory, is_value=loss == "sampled_softmax" and correction != "none")
    name = f"{loss}, {correction}" if loss == "sampled_softmax" else loss
    title = f"{name}: {len(rows)} x {len(proposal)} scores, {type(proposal).__name__}"
    arrays = {key: np.array(column) for key, column in columns.items()}
    return BiasVariance(title, np.array(numbers), tuple(methods), **arrays)
