"""Tensors give what arrays give, to the bit: every function, dtype, layout and option."""

import numpy as np
import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

MAPS = {
    "softmax": sf.softmax,
    "log_softmax": sf.log_softmax,
    "sparsemax": sf.sparsemax,
    "entmax": sf.entmax,
    "entmax of order 1.3": lambda x, **options: sf.entmax(x, 1.3, **options),
    "normmax": sf.normmax,
    "budget_sparsemax": lambda x, **options: sf.budget_sparsemax(x, 2.0, **options),
}
OTHERS = {
    "logsumexp": lambda x, **options: [sf.logsumexp(x, **options)],
    "weighted logsumexp": lambda x, **options: sf.logsumexp(x, weights=[1, -2, 3, 0, 1], return_sign=True, **options),
    "top_log_probs": lambda x, **options: sf.top_log_probs(x, 3, **options),
    "entmax_threshold": sf.entmax_threshold,
    "entmax_sparse": lambda x, **options: sf.entmax_sparse(x, **options)[:3],
}
FUNCTIONS = {**{name: lambda x, f=f, **options: [f(x, **options)] for name, f in MAPS.items()}, **OTHERS}


def scores(dtype=torch.float64, shape=(4, 3, 5)):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).mul(2).to(dtype)


def as_numpy(tensor):
    """Return the array of a tensor; bfloat16 as the dtype of ml_dtypes."""
    if tensor.dtype is not torch.bfloat16:
        return tensor.detach().numpy()
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")
    return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def assert_same(tensors, arrays):
    for tensor, array in zip(tensors, arrays, strict=True):
        assert type(tensor) is torch.Tensor
        got = as_numpy(tensor)
        assert got.dtype == np.asarray(array).dtype and got.shape == np.shape(array)
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_bits_of_arrays(name, dtype):
    x = scores(dtype)
    assert_same(FUNCTIONS[name](x), FUNCTIONS[name](as_numpy(x)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_those_of_arrays(name):
    x = scores()
    where, temperature = (
        torch.rand(4, 1, 5, generator=torch.Generator().manual_seed(1)) < 0.8,
        torch.rand(4, 3, 1) + 0.5,
    )
    got = FUNCTIONS[name](x, where=where, temperature=temperature)
    assert_same(got, FUNCTIONS[name](x.numpy(), where=where.numpy(), temperature=temperature.double().numpy()))


def test_parameters_for_each_row():
    x, alpha = scores(), torch.tensor([[[1.0]], [[1.5]], [[2.0]], [[3.0]]])
    for function in (sf.entmax, sf.entmax_threshold, lambda x, a: sf.entmax_sparse(x, a)[:3]):
        got, expected = function(x, alpha), function(x.numpy(), alpha.double().numpy())
        assert_same(*(r if isinstance(r, tuple) else [r] for r in (got, expected)))
    p = sf.softmax(x)
    assert_same([sf.tsallis_entropy(p, alpha)], [sf.tsallis_entropy(p.numpy(), alpha.double().numpy())])


LAYOUTS = {
    "transposed": lambda x: x.transpose(0, 2),
    "every second": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda x: x[:1].expand(6, 3, 5),
    "offset": lambda x: x[1:, 1:],
    "channels last": lambda x: x[None].to(memory_format=torch.channels_last),
    "negated": lambda x: torch.complex(x, -x).conj().imag,  # lazily
    "parameter": torch.nn.Parameter,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MAPS)
def test_layouts_are_those_of_arrays(name, layout):
    x = LAYOUTS[layout](scores())
    for axis in (-2, -1):
        with torch.no_grad():
            got = MAPS[name](x, axis=axis)
        array = x.detach().resolve_neg().numpy()
        assert_same([got], [MAPS[name](array, axis=axis)])


@pytest.mark.parametrize("axis", [None, (0, 2), [-1], 1])
def test_several_axes(axis):
    x = scores()
    for function in (sf.logsumexp, sf.softmax, sf.log_softmax):
        assert_same([function(x, axis=axis)], [function(x.numpy(), axis=axis)])
    assert_same([sf.logsumexp(x, axis=axis, keepdims=True)], [sf.logsumexp(x.numpy(), axis=axis, keepdims=True)])


@pytest.mark.parametrize("name", MAPS)
def test_out_is_written_and_returned(name):
    x = scores(torch.float32)
    expected = MAPS[name](x)
    base = torch.full((5, 3, 4, 2), torch.nan)
    out = base[..., 1].permute(2, 1, 0)
    version = out._version
    assert MAPS[name](x, out=out) is out and torch.equal(out, expected)
    assert base[..., 0].isnan().all(), "nothing else is written"
    assert out._version > version, "autograd must see that the tensor was written"
    place = x.clone()
    assert MAPS[name](place, out=place) is place and torch.equal(place, expected)


def test_out_of_a_reduction():
    x, out = scores(), torch.empty(4, 3, dtype=torch.float64)
    assert sf.logsumexp(x, out=out) is out and torch.equal(out, sf.logsumexp(x))
    assert sf.logsumexp(x, weights=torch.ones(5), out=out) is out
    torch.testing.assert_close(out, sf.logsumexp(x))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_integers_become_the_default_dtype(dtype):
    x = torch.tensor([[3, 0, 1]]).to(dtype)
    assert torch.equal(sf.softmax(x), sf.softmax(x.float()))
    torch.set_default_dtype(torch.float64)
    try:
        assert sf.softmax(x).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_edges():
    inf, nan = torch.inf, torch.nan
    assert sf.softmax(torch.tensor(3.0)) == 1
    assert sf.logsumexp(torch.empty(2, 0)).tolist() == [-inf, -inf]
    assert sf.softmax(torch.empty(2, 0)).shape == (2, 0) and sf.entmax(torch.empty(0, 3)).shape == (0, 3)
    rows = torch.tensor([[nan, 0.0], [inf, 0.0], [-inf, -inf], [0.0, -inf]])
    for function in MAPS.values():
        if function is not MAPS["budget_sparsemax"]:
            got = function(rows)
            assert got[:3].isnan().all() and not got[3].isnan().any()
    masked = torch.zeros(1, 2, dtype=torch.bool)
    assert sf.softmax(torch.zeros(1, 2), where=masked).tolist() == [[0, 0]]
    assert sf.log_softmax(torch.zeros(1, 2), where=masked).tolist() == [[-inf, -inf]]


def test_products_are_those_of_arrays():
    x, g = scores(), scores()[..., [2, 0, 1, 4, 3]]
    p, log_p, lse = sf.entmax(x, 1.3), sf.log_softmax(x), sf.logsumexp(x)
    n = lambda *tensors: [tensor.numpy() for tensor in tensors]  # noqa: E731
    assert_same([sf.softmax_vjp(p, g)], [sf.softmax_vjp(*n(p, g))])
    assert_same([sf.log_softmax_vjp(log_p, g)], [sf.log_softmax_vjp(*n(log_p, g))])
    assert_same([sf.logsumexp_vjp(x, lse, lse)], [sf.logsumexp_vjp(*n(x, lse, lse))])
    assert_same([sf.entmax_vjp(p, g, 1.3)], [sf.entmax_vjp(*n(p, g), 1.3)])
    assert_same([sf.entmax_alpha_grad(p, g, 1.3)], [sf.entmax_alpha_grad(*n(p, g), 1.3)])


X = torch.zeros(2, 3)
MISTAKES = [
    (lambda: sf.softmax(X.to(torch.complex64)), TypeError, "dtype torch.complex64, must be float16"),
    (lambda: sf.softmax(X.to_sparse()), TypeError, "layout torch.sparse_coo, must be torch.strided"),
    (lambda: sf.softmax(X, axis=2), ValueError, r"axis is 2, must lie in \[-2, 1\] for scores of shape \(2, 3\)"),
    (lambda: sf.entmax(X, axis=(0, 1)), TypeError, r"axis is \(0, 1\), must be an int"),
    (lambda: sf.softmax(X, axis=(0, -2)), ValueError, "names axis 0 twice"),
    (lambda: sf.softmax(X, temperature=0.0), ValueError, "temperature is 0, must be > 0 and finite"),
    (lambda: sf.softmax(X, temperature=torch.ones(2, 2)), ValueError, r"temperature has shape \(2, 2\)"),
    (lambda: sf.softmax(X, temperature=torch.ones(2, 1) * 1j), TypeError, "temperature has dtype torch.complex64"),
    (lambda: sf.softmax(X, where=torch.ones(3)), TypeError, "where has dtype torch.float32, must be torch.bool"),
    (lambda: sf.softmax(X, where=torch.ones(4) > 0), ValueError, r"where has shape \(4,\), must broadcast to \(2, 3\)"),
    (lambda: sf.entmax(X, -1.0), ValueError, "alpha is -1, must be"),
    (lambda: sf.normmax(X, 1.0), ValueError, "alpha is 1, must be"),
    (lambda: sf.budget_sparsemax(X, 5.0), ValueError, "budget"),
    (lambda: sf.top_log_probs(X, 4), ValueError, r"k is 4, must lie in \[1, 3\]"),
    (lambda: sf.entmax_sparse(X, max_support=2), ValueError, "support"),
    (lambda: sf.softmax(X, out=torch.empty(3, 2)), ValueError, r"out has shape \(3, 2\), must have shape \(2, 3\)"),
    (
        lambda: sf.softmax(X, out=torch.empty(2, 3).double()),
        ValueError,
        "out has dtype float64, must have dtype float32",
    ),
    (lambda: sf.softmax(X, out=torch.empty(1, 3).expand(2, 3)), ValueError, "several elements in one place"),
    (lambda: sf.softmax(X.T, out=X.view(3, 2)), ValueError, "out shares memory with an input"),
    (
        lambda: sf.softmax(X.clone().requires_grad_(), out=X.clone()),
        ValueError,
        "out is given for tensors that require grad",
    ),
    (lambda: sf.softmax_vjp(X, X.double()), TypeError, "g has dtype torch.float64, must be torch.float32 as p"),
    (lambda: sf.softmax(X, where=np.ones(3, dtype=bool)), TypeError, "numpy.ndarray.*one library"),
    (lambda: sf.entmax(np.zeros(3), torch.tensor(1.5)), TypeError, "torch"),
    (lambda: sf.entmax(X, np.array(1.5)), TypeError, "numpy.ndarray.*one library"),
    (lambda: sf.softmax(X, where=torch.ones(3, device="meta") > 0), ValueError, "where is on meta, must be on cpu"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_named(number):
    call, error, message = MISTAKES[number]
    with pytest.raises(error, match=message):
        call()


def test_columns_of_one_tensor_do_not_overlap():
    base = torch.arange(12.0).reshape(3, 4)
    x, out = base[:, ::2], base[:, 1::2]
    expected = sf.softmax(x)
    assert torch.equal(sf.softmax(x, out=out), expected)
