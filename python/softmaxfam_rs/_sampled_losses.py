"""Losses from sampled negatives, by their scores: sampled softmax, noise-contrastive estimation, negative sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import _sampled as formulas
from ._dispatch import backend_of
from ._exponential import logsumexp
from ._losses import cross_entropy, cross_entropy_and_grad

if TYPE_CHECKING:
    from typing import Literal

    from ._typing import AnyArray, Array, Reduction

    Correction = Literal["none", "all", "negatives", "refined"]


class SampledGradients(NamedTuple):
    """The gradients of a loss from sampled negatives.

    Attributes
    ----------
    positive : array
        With respect to the positives' scores, of their shape.
    negative : array
        With respect to the negatives' scores, of their shape: summed over the rows that share them.
    """

    positive: Array
    negative: Array


def sampled_softmax_loss(
    positive: Array,
    negative: Array,
    logq_positive: AnyArray | None = None,
    logq_negative: AnyArray | None = None,
    /,
    *,
    correction: Correction = "all",
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Array:
    """Compute cross entropy of a class against m sampled negatives, corrected for how those were drawn.

    Parameters
    ----------
    positive : array, shape (B,) or (B, P)
        Scores of the classes that were right; several of a row are examples of their own, with the row's negatives.
        float16, bfloat16, float32 or float64.
    negative : array, shape (m,) or (B, m)
        Scores of classes drawn from a proposal q, the same for all rows or each row's own.
    logq_positive, logq_negative : array
        log q of each of them, as samplers return it; not needed with correction "none".
    correction : {"all", "negatives", "refined", "none"}, default "all"
        What is subtracted from the scores over T. "all": log q, from positive and negatives; its optimum is
        log-probabilities, for draws with replacement and all hits kept. "negatives": log(m q') from the negatives,
        q' = q / (1 - q(positive)), for negatives that were drawn from the other classes; with `hits` it is log(m q),
        for negatives drawn from all. "refined": the same gradient, and the value weighted by the estimate of 1 - p.
        "none": nothing; its optimum is log-probabilities less log q.
    hits : array of bool, shape (B, m), optional
        True where a negative is the row's positive class: such slots are left out.
    temperature : float, default 1.0
        Scores are divided by it; > 0 and finite.
    reduction : {"mean", "sum", "none"}, default "mean"
        What becomes of the losses of the positives.

    Returns
    -------
    array
        One number, or with reduction "none" one for each positive. Never negative, but for "refined".

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit, or where log q is missing.

    Notes
    -----
    With hits kept under "negatives" the positive would count twice; with hits removed under "all" the optimum is not
    log-probabilities for two draws and more. Sources: Bengio, Senecal (2008); Jean, Cho, Memisevic, Bengio (2015),
    arXiv:1412.2007; Ma, Collins (2018), arXiv:1809.01812; "refined": Khrylchenko et al. (2025), arXiv:2507.09331.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sampler = sf.UniformSampler(1000)
    >>> negatives = sampler.sample((4, 20), rng=0)
    >>> scores = np.zeros((4, 1000))
    >>> positive, negative = scores[:, 7], np.take_along_axis(scores, negatives.ids, axis=1)
    >>> float(sf.sampled_softmax_loss(positive, negative, sampler.logq([7] * 4), negatives.logq).round(6))
    3.044522
    """
    _same_library("sampled_softmax_loss", positive, negative, logq_positive, logq_negative, hits)
    of = formulas.slots(positive, negative, logq_positive, logq_negative, hits, temperature)
    own, others = formulas.sampled_softmax(of, correction, reduction)
    if correction == "refined":
        above = logsumexp(others, axis=-1, where=of.present) - own if of.shape[-1] else own * 0
        losses = formulas.refined(of.xp, above)
    else:
        rows, labels, where = formulas.joined(of, own, others)
        losses = cross_entropy(rows, labels, where=where, reduction="none")
    return formulas.reduced(of, losses, reduction)


def sampled_softmax_loss_and_grad(
    positive: Array,
    negative: Array,
    logq_positive: AnyArray | None = None,
    logq_negative: AnyArray | None = None,
    /,
    *,
    correction: Correction = "all",
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, SampledGradients]:
    """Compute `sampled_softmax_loss` and its gradients.

    Parameters
    ----------
    positive, negative, logq_positive, logq_negative, correction, hits, temperature, reduction
        As for `sampled_softmax_loss`.

    Returns
    -------
    tuple
        The loss, and `SampledGradients` of the scores; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.sampled_softmax_loss_and_grad(np.zeros(1), np.zeros(3), correction="none")
    >>> loss.round(4), grad.positive, grad.negative
    (np.float64(1.3863), array([-0.75]), array([0.25, 0.25, 0.25]))
    """
    _same_library("sampled_softmax_loss_and_grad", positive, negative, logq_positive, logq_negative, hits)
    positive, negative = formulas.stopped(positive), formulas.stopped(negative)
    logq_positive, logq_negative = formulas.stopped(logq_positive), formulas.stopped(logq_negative)
    of = formulas.slots(positive, negative, logq_positive, logq_negative, hits, temperature)
    own, others = formulas.sampled_softmax(of, correction, reduction)
    rows, labels, where = formulas.joined(of, own, others)
    losses, gradient = cross_entropy_and_grad(rows, labels, where=where, reduction="none")
    if correction == "refined":
        above = logsumexp(others, axis=-1, where=of.present) - own if of.shape[-1] else own * 0
        losses = formulas.refined(of.xp, above)
    parts = formulas.returned(of, gradient[..., 0], gradient[..., 1:], reduction)
    return formulas.reduced(of, losses, reduction), SampledGradients(*parts)


def nce_loss(
    positive: Array,
    negative: Array,
    logq_positive: AnyArray,
    logq_negative: AnyArray,
    /,
    *,
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Array:
    """Compute the loss of noise-contrastive estimation: whether a class came from the data or from m draws of noise.

    Parameters
    ----------
    positive, negative, logq_positive, logq_negative, hits, temperature, reduction
        As for `sampled_softmax_loss`; with s = score / T and d = s - log(m q), the loss is
        -log sigma(d) of the positive minus the sum of log sigma(-d) over the negatives.

    Returns
    -------
    array
        One number, or with reduction "none" one for each positive. Never negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit.

    Notes
    -----
    Its optimum is log-probabilities, normalised, for any m, with draws from q and all hits kept. Sources: Gutmann,
    Hyvarinen (2012), JMLR 13; Mnih, Teh (2012), arXiv:1206.6426.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> log_quarter = np.log(0.25)
    >>> loss = sf.nce_loss(np.zeros(1), np.zeros(4), np.array([log_quarter]), np.full(4, log_quarter))
    >>> np.isclose(loss, 5 * np.log(2))
    np.True_
    """
    _same_library("nce_loss", positive, negative, logq_positive, logq_negative, hits)
    of = formulas.slots(positive, negative, logq_positive, logq_negative, hits, temperature)
    return formulas.reduced(of, formulas.binary_losses(of, *formulas.binary(of, corrected=True)), reduction)


def nce_loss_and_grad(
    positive: Array,
    negative: Array,
    logq_positive: AnyArray,
    logq_negative: AnyArray,
    /,
    *,
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, SampledGradients]:
    """Compute `nce_loss` and its gradients.

    Parameters
    ----------
    positive, negative, logq_positive, logq_negative, hits, temperature, reduction
        As for `nce_loss`.

    Returns
    -------
    tuple
        The loss, and `SampledGradients` of the scores; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> loss, grad = sf.nce_loss_and_grad(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1))
    >>> grad.positive, grad.negative
    (array([-0.5]), array([0.5]))
    """
    _same_library("nce_loss_and_grad", positive, negative, logq_positive, logq_negative, hits)
    positive, negative = formulas.stopped(positive), formulas.stopped(negative)
    logq_positive, logq_negative = formulas.stopped(logq_positive), formulas.stopped(logq_negative)
    of = formulas.slots(positive, negative, logq_positive, logq_negative, hits, temperature)
    return _binary_and_grad(of, reduction, corrected=True)


def negative_sampling_loss(
    positive: Array,
    negative: Array,
    /,
    *,
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Array:
    """Compute the loss of negative sampling: -log sigma(positive) minus the sum of log sigma(-negative).

    Parameters
    ----------
    positive, negative, hits, temperature, reduction
        As for `sampled_softmax_loss`.

    Returns
    -------
    array
        One number, or with reduction "none" one for each positive. Never negative.

    Raises
    ------
    TypeError
        For a dtype or an array type that is not accepted; the message names both.
    ValueError
        For a shape or an option that does not fit.

    Notes
    -----
    Its optimum for draws from q is log-probabilities less log q and log m: pointwise mutual information, where q are
    the frequencies of classes. Sources: Mikolov et al. (2013), arXiv:1310.4546; Levy, Goldberg (2014), NeurIPS.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> np.isclose(sf.negative_sampling_loss(np.zeros(2), np.zeros(5)), 6 * np.log(2))
    np.True_
    """
    _same_library("negative_sampling_loss", positive, negative, hits)
    of = formulas.slots(positive, negative, None, None, hits, temperature)
    return formulas.reduced(of, formulas.binary_losses(of, *formulas.binary(of, corrected=False)), reduction)


def negative_sampling_loss_and_grad(
    positive: Array,
    negative: Array,
    /,
    *,
    hits: AnyArray | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> tuple[Array, SampledGradients]:
    """Compute `negative_sampling_loss` and its gradients.

    Parameters
    ----------
    positive, negative, hits, temperature, reduction
        As for `negative_sampling_loss`.

    Returns
    -------
    tuple
        The loss, and `SampledGradients` of the scores; with reduction "none" those of the sum.

    Examples
    --------
    >>> import numpy as np, softmaxfam_rs as sf
    >>> sf.negative_sampling_loss_and_grad(np.zeros(1), np.zeros((1, 2)))[1].negative
    array([[0.5, 0.5]])
    """
    _same_library("negative_sampling_loss_and_grad", positive, negative, hits)
    positive, negative = formulas.stopped(positive), formulas.stopped(negative)
    of = formulas.slots(positive, negative, None, None, hits, temperature)
    return _binary_and_grad(of, reduction, corrected=False)


def _binary_and_grad(of: formulas.Slots, reduction: str, *, corrected: bool) -> tuple[Array, SampledGradients]:
    above = formulas.binary(of, corrected=corrected)
    loss = formulas.reduced(of, formulas.binary_losses(of, *above), reduction)
    return loss, SampledGradients(*formulas.returned(of, *formulas.binary_gradients(of, *above), reduction))


def _same_library(function: str, *arrays: AnyArray | None) -> None:
    """Refuse arrays of several libraries."""
    backend_of(function, *arrays)
