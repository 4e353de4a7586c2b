"""Naive twins in float64 and 50-digit references; what every test compares with."""

import mpmath
import numpy as np

mpmath.mp.dps = 50

DTYPES = ["float16", "bfloat16", "float32", "float64"]
ALPHAS = [0.5, 1.0, 1 + 1e-8, 1 + 1e-4, 1.3, 1.5, 2.0, 2.5, 3.0, 16.0, 64.0]


def dtype_of(name):
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def eps_of(name):
    return {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}[name]


def logsumexp(x, temperature=1):
    """50 digits; x a list of finite floats."""
    return mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(v)) / mpmath.mpf(temperature)) for v in x))


def entmax(x, alpha, temperature=1):
    """50 digits: bisection, then p normalised; above order 2 on the smallest probability of the support."""
    z = [mpmath.mpf(float(v)) / mpmath.mpf(temperature) for v in x]
    highest = max(z)
    z = [v - highest for v in z]
    a = mpmath.mpf(alpha) - 1
    if a == 0:
        terms = [mpmath.exp(v) for v in z]
        total = mpmath.fsum(terms)
        return [t / total for t in terms]
    if a > 1:
        return steep_entmax(z, a)

    def p_of(u):
        scale = a * mpmath.exp(a * u)
        return [mpmath.exp(mpmath.log1p(scale * v) / a - u) if 1 + scale * v > 0 else mpmath.mpf(0) for v in z]

    low, high = mpmath.mpf(0), mpmath.log(len(z))
    for _ in range(170):
        u = (low + high) / 2
        if mpmath.fsum(p_of(u)) > 1:
            low = u
        else:
            high = u
    return p_of(low)


def steep_entmax(z, a):
    scaled = sorted((a * v for v in z), reverse=True)
    support = 1
    while support < len(scaled) and mpmath.fsum((v - scaled[support]) ** (1 / a) for v in scaled[:support]) < 1:
        support += 1
    lowest = scaled[support - 1]

    def p_of(log_pi):
        power = mpmath.exp(a * log_pi)
        return [(a * v - lowest + power) ** (1 / a) if a * v >= lowest else mpmath.mpf(0) for v in z]

    low, high = mpmath.mpf(-4000) / a, mpmath.mpf(0)
    for _ in range(170):
        log_pi = (low + high) / 2
        if mpmath.fsum(p_of(log_pi)) > 1:
            high = log_pi
        else:
            low = log_pi
    return p_of(high)


def entmax_alpha_grad(p, g, alpha):
    """-<g, J k> at p > 0, in as many digits as are set."""
    p, g, a = [mpmath.mpf(float(v)) for v in p], [mpmath.mpf(float(v)) for v in g], mpmath.mpf(alpha) - 1
    s = [v ** (1 - a) for v in p]
    mean = mpmath.fsum(u * v for u, v in zip(s, g, strict=True)) / mpmath.fsum(s)
    x = [a * mpmath.log(v) for v in p]
    k = [(mpmath.exp(v) * (v - 1) + 1) / a**2 for v in x]
    return -mpmath.fsum(u * (v - mean) * w for u, v, w in zip(s, g, k, strict=True))


def softmax64(x, axis=-1, temperature=1.0):
    x = np.asarray(x, dtype=np.float64) / temperature
    terms = np.exp(x - x.max(axis=axis, keepdims=True))
    return terms / terms.sum(axis=axis, keepdims=True)


def logsumexp64(x, axis=-1, temperature=1.0):
    x = np.asarray(x, dtype=np.float64) / temperature
    highest = x.max(axis=axis, keepdims=True)
    return (np.log(np.exp(x - highest).sum(axis=axis, keepdims=True)) + highest).squeeze(axis)


def sparsemax64(x):
    """Rows in the last axis; by sorting (Martins, Astudillo 2016)."""
    x = np.asarray(x, dtype=np.float64)
    z = -np.sort(-x, axis=-1)
    sums = z.cumsum(axis=-1) - 1
    sizes = np.arange(1, x.shape[-1] + 1)
    support = (sizes * z > sums).sum(axis=-1, keepdims=True)
    return np.maximum(x - np.take_along_axis(sums, support - 1, axis=-1) / support, 0)


def tsallis(p, alpha):
    """Omega of probabilities, 50 digits: (sum p^alpha - 1) / (alpha (alpha - 1)) and its limits, for sum p = 1."""
    p = [v for v in p if v > 0]
    if alpha == np.inf:
        return mpmath.mpf(0)
    alpha = mpmath.mpf(alpha)
    if alpha == 1:
        return mpmath.fsum(v * mpmath.log(v) for v in p)
    return mpmath.fsum(v**alpha - v for v in p) / (alpha * (alpha - 1))


def entmax_loss(x, y, alpha, temperature=1):
    """The Fenchel-Young loss as it is defined, and its gradient, 50 digits."""
    z = [mpmath.mpf(float(v)) / mpmath.mpf(temperature) for v in x]
    y = [mpmath.mpf(v) for v in y]
    if alpha == np.inf:
        ties = [v == max(z) for v in z]
        p = [mpmath.mpf(int(tie)) / sum(ties) for tie in ties]
    else:
        p = entmax(x, alpha, temperature)
    along = mpmath.fsum((a - b) * v for a, b, v in zip(p, y, z, strict=True) if v > -np.inf)
    value = along - tsallis(p, alpha) + tsallis(y, alpha)
    return value, [(a - b) / mpmath.mpf(temperature) for a, b in zip(p, y, strict=True)]
