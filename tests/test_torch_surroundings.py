"""What may surround a call in torch: transforms, compilers, fake tensors, modes, subclasses, processes."""

import multiprocessing

import pytest

import softmaxfam_rs as sf

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch._subclasses import FakeTensorMode  # noqa: E402  after the look for torch
from torch.func import grad, hessian, jacfwd, jacrev, vmap  # noqa: E402
from torch.fx.experimental.symbolic_shapes import ShapeEnv  # noqa: E402

# torch loads its own forward-mode rules by what it has deprecated itself
pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning", "ignore:.torch.jit.script:DeprecationWarning"
)

X = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator(torch.get_default_device()).manual_seed(0))
DEVICE = X.device
ALPHAS = torch.tensor([[1.2], [1.5], [2.0]], dtype=torch.float64)
DENSE = {
    "logsumexp": sf.logsumexp,
    "weighted logsumexp": lambda x: sf.logsumexp(x, weights=torch.arange(1.0, 6.0, dtype=torch.float64, device=DEVICE)),
    "softmax": sf.softmax,
    "log_softmax": lambda x: sf.log_softmax(x, temperature=torch.tensor(0.7, dtype=torch.float64, device=DEVICE)),
    "top_log_probs": lambda x: sf.top_log_probs(x, 3).log_probs,
    "sparsemax": sf.sparsemax,
    "entmax": lambda x: sf.entmax(x, 1.3, where=torch.tensor([True, True, False, True, True], device=DEVICE)),
    "normmax": sf.normmax,
    "budget_sparsemax": lambda x: sf.budget_sparsemax(x, 2.5),
    "entmax_threshold": lambda x: sf.entmax_threshold(x).normalizer,
    "tsallis_entropy": lambda x: sf.tsallis_entropy(torch.softmax(x, -1), 1.5),
    "entmax_vjp": lambda x: sf.entmax_vjp(sf.entmax(x), x, 1.5),
}
ALL = {**DENSE, "entmax_sparse": lambda x: sf.entmax_sparse(x).values}


def gradient_of(function, x):
    x = x.clone().requires_grad_()
    function(x).square().sum().backward()
    return x.grad


@pytest.mark.parametrize("name", DENSE)
class TestTransforms:
    def test_vmap(self, name):
        function = DENSE[name]
        torch.testing.assert_close(vmap(function)(X), function(X))
        torch.testing.assert_close(vmap(function, in_dims=1)(X.T.contiguous()), function(X))
        torch.testing.assert_close(vmap(vmap(function))(X.expand(2, 3, 5)), function(X).expand(2, *function(X).shape))

    def test_gradients(self, name):
        function = DENSE[name]
        expected = gradient_of(function, X)
        torch.testing.assert_close(grad(lambda x: function(x).square().sum())(X), expected)
        torch.testing.assert_close(vmap(grad(lambda x: function(x).square().sum()))(X), expected)

    def test_jacobians(self, name):
        function, x = DENSE[name], X[0]
        expected = torch.autograd.functional.jacobian(function, x)
        torch.testing.assert_close(jacrev(function)(x), expected)
        torch.testing.assert_close(jacfwd(function)(x), expected)

    def test_hessians(self, name):
        total, x = lambda x: DENSE[name](x).square().sum(), X[0]
        torch.testing.assert_close(hessian(total)(x), torch.autograd.functional.hessian(total, x))


def test_vmap_over_parameters_and_masks():
    got = vmap(sf.entmax, in_dims=(None, 0))(X[0], ALPHAS)
    torch.testing.assert_close(got, sf.entmax(X[:1].expand(3, 5), ALPHAS))
    mask = X > -0.5
    got = vmap(lambda x, m: sf.softmax(x, where=m), in_dims=(None, 0))(X, mask)
    torch.testing.assert_close(got, torch.stack([sf.softmax(X, where=m) for m in mask]))
    got = vmap(lambda x, t: sf.softmax(x, axis=0, temperature=t), in_dims=(1, 0))(X, torch.arange(1.0, 6.0))
    torch.testing.assert_close(got, sf.softmax(X, axis=0, temperature=torch.arange(1.0, 6.0)).T)
    numbers = vmap(sf.logsumexp)(X[0])
    torch.testing.assert_close(numbers, X[0])


def test_gradients_batched_by_autograd():
    x = X.clone().requires_grad_()
    p, many = sf.entmax(x), torch.randn(4, 3, 5, dtype=torch.float64)
    (got,) = torch.autograd.grad(p, x, many, is_grads_batched=True, retain_graph=True)
    torch.testing.assert_close(got, torch.stack([torch.autograd.grad(p, x, g, retain_graph=True)[0] for g in many]))


@pytest.mark.parametrize("name", ALL)
def test_compiled_without_graph_breaks(name):
    function = ALL[name]
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), function(X))
    torch.testing.assert_close(gradient_of(compiled, X), gradient_of(function, X))


def test_compiled_with_any_number_of_rows():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: sf.entmax(x, 1.3), fullgraph=True, backend="eager", dynamic=True)
    for rows in (2, 3, 7):
        torch.testing.assert_close(compiled(X[:1].expand(rows, 5)), sf.entmax(X[:1].expand(rows, 5), 1.3))


def test_compiled_into_out():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, out: sf.softmax(x, out=out), fullgraph=True, backend="aot_eager")
    out = torch.empty_like(X)
    compiled(X, out)
    torch.testing.assert_close(out, sf.softmax(X))


def test_exported():
    class Model(torch.nn.Module):
        def forward(self, x):
            return sf.entmax(x, 1.3) + sf.logsumexp(x, keepdims=True)

    program = torch.export.export(Model(), (X,))
    torch.testing.assert_close(program.module()(X), Model()(X))
    assert any("softmaxfam_rs.entmax" in str(node.target) for node in program.graph.nodes)


OPERATORS = {
    "softmax": (X, None, None, 1.0, [1]),
    "log_softmax": (X, X > -1, ALPHAS, 1.0, [1]),
    "logsumexp": (X, None, None, 0.5, False, [0]),
    "weighted_logsumexp": (X, None, None, 1.0, X[0].abs(), True, [1]),
    "top_log_probs": (X, None, None, 1.0, 2, [1]),
    "entmax": (X, None, None, 1.0, ALPHAS, 0.0, [1]),
    "normmax": (X, None, None, 1.0, None, 2.0, [1]),
    "budget_sparsemax": (X, None, None, 1.0, None, 2.0, [1]),
    "entmax_threshold": (X, None, None, 1.0, None, 1.5, [1]),
    "entmax_sparse": (X, None, None, 1.0, None, 1.5, None, [1]),
    "tsallis_entropy": (torch.softmax(X, 1), None, 1.5, [1]),
    "softmax_vjp": (torch.softmax(X, 1), X, None, 1.0, [1]),
    "log_softmax_vjp": (torch.log_softmax(X, 1), X, None, 1.0, [1]),
    "logsumexp_vjp": (X, X[:, :1], X[:, :1], None, None, 1.0, [1]),
    "entmax_vjp": (torch.softmax(X, 1), X, None, 1.5, None, 1.0, [1]),
    "entmax_alpha_grad": (torch.softmax(X, 1), X, None, 1.5, [1]),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch, within opcheck
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_keep_the_rules(name):
    sf.softmax(X)  # registers them
    arguments = OPERATORS[name]
    operator = getattr(torch.ops.softmaxfam_rs, name).default
    torch.library.opcheck(
        operator, arguments, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )
    if not name.endswith(("_vjp", "_grad", "_sparse")):
        scores = (arguments[0].clone().requires_grad_(), *arguments[1:])
        torch.library.opcheck(operator, scores, test_utils=("test_aot_dispatch_dynamic",))


@pytest.mark.parametrize("name", ALL)
def test_fake_tensors_have_the_shape(name):
    expected = ALL[name](X)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode:
        got = ALL[name](mode.from_tensor(X))
    assert got.dtype == expected.dtype and got.ndim == expected.ndim
    if name != "entmax_sparse":  # whose size depends on the numbers
        assert got.shape == expected.shape


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "entmax_threshold", "sparsemax", "tsallis_entropy"])
def test_meta_tensors_have_the_shape(name):
    expected, got = DENSE[name](X), DENSE[name](X.to("meta"))
    assert got.is_meta and (got.dtype, got.shape) == (expected.dtype, expected.shape)


def test_sparse_rows_of_meta_tensors_are_refused():
    with pytest.raises(RuntimeError, match="data-dependent"):
        sf.entmax_sparse(X.to("meta"))


def test_inference_mode():
    with torch.inference_mode():
        x = X.clone()
        assert sf.entmax(x).is_inference()
        out = torch.empty_like(x)
        torch.testing.assert_close(sf.softmax(x, out=out), sf.softmax(X.clone()))
    with torch.no_grad():
        assert not sf.softmax(X.clone().requires_grad_()).requires_grad


def test_autocast_does_what_it_does_to_softmax():
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            x = X.to(dtype).requires_grad_()
            for function in (sf.softmax, sf.entmax, sf.logsumexp):
                y = function(x)
                assert y.dtype == torch.softmax(x, -1).dtype
                y.sum().backward()
            assert x.grad.dtype == dtype


in_cpu_memory = pytest.mark.skipif(
    torch.get_default_device().type != "cpu",
    reason="tensors of this run are not in CPU memory",
)


WEIGHT = torch.linspace(-1, 1, 35).reshape(7, 5)
OF_LISTS = {
    "softmax": lambda x: sf.softmax(x, where=[True, True, False, True, True], temperature=[[0.5], [1.0], [2.0]]),
    "logsumexp": lambda x: sf.logsumexp(x, weights=[1.0, 2.0, 3.0, 4.0, 5.0]),
    "entmax": lambda x: sf.entmax(x, [[1.2], [1.5], [2.5]]),
    "tsallis_entropy": lambda x: sf.tsallis_entropy(torch.softmax(x, -1), 1.3),
    "cross_entropy": lambda x: sf.cross_entropy(x, [4, 0, 2], weight=[1.0, 2.0, 3.0, 4.0, 5.0]),
    "linear_cross_entropy": lambda x: sf.linear_cross_entropy(x.float(), WEIGHT, [6, 0, 2], bias=[0.5] * 7),
    "linear_entmax_loss": lambda x: sf.linear_entmax_loss(x.float(), WEIGHT, [6, 0, 2], reduction="none"),
    "sampled_softmax": lambda x: sf.sampled_softmax(x.float(), WEIGHT, [6, 0, 2], sf.UniformSampler(7), 3, rng=1),
    "nce": lambda x: sf.nce(x, WEIGHT.double(), [6, 0, 2], sf.UniformSampler(7), 3, rng=1, shared=False),
    "hierarchical": lambda x: sf.HierarchicalSoftmax(list(range(1, 9)), weight=WEIGHT).loss(x.float(), [6, 0, 2]),
}


@in_cpu_memory
@pytest.mark.parametrize("name", OF_LISTS)
def test_another_default_device_changes_nothing(name):
    expected, gradient = OF_LISTS[name](X), gradient_of(OF_LISTS[name], X)
    with torch.device("meta"):
        torch.testing.assert_close(OF_LISTS[name](X), expected)
        torch.testing.assert_close(gradient_of(OF_LISTS[name], X), gradient)


class Tagged(torch.Tensor):
    """A subclass that torch hands through its functions."""


def test_subclasses():
    x = X.clone().as_subclass(Tagged)
    for function in (sf.softmax, sf.entmax, sf.logsumexp):
        y = function(x)
        assert isinstance(y, Tagged)
        torch.testing.assert_close(y.as_subclass(torch.Tensor), function(X))
    y = x.clone().requires_grad_()
    sf.entmax(y).square().sum().backward()
    torch.testing.assert_close(y.grad.as_subclass(torch.Tensor), gradient_of(sf.entmax, X))


def gradients_in_a_child(queue):
    torch.set_num_threads(1)  # as loaders do: torch's own threads do not survive a fork
    x = torch.ones(64, 4096, requires_grad=True)
    sf.entmax(x).sum().backward()
    queue.put(x.grad.abs().max().item())


@in_cpu_memory
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes(start):
    sf.softmax(torch.zeros(64, 40960))  # threads, which a fork does not take along
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    child = context.Process(target=gradients_in_a_child, args=(queue,))
    child.start()
    assert queue.get(timeout=100) < 1e-6
    child.join()


class Rows(torch.utils.data.Dataset):
    """Rows of probabilities, computed by the workers of a loader."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return sf.softmax(torch.arange(4.0) * index)


@in_cpu_memory
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader(start):
    loader = torch.utils.data.DataLoader(Rows(), batch_size=3, num_workers=1, multiprocessing_context=start)
    rows = torch.cat(list(loader))
    assert torch.equal(rows, torch.stack([Rows()[index] for index in range(6)]))


def test_older_releases_are_read_by_capsules():
    # without DLPack's table of functions, as before torch 2.10; a process of its own, for the choice is made once
    code = """
import torch
del torch.Tensor.__dlpack_c_exchange_api__
import softmaxfam_rs as sf
for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    x = torch.tensor([[1.0, 0.5, -1.0]], dtype=dtype, requires_grad=True)
    p = sf.sparsemax(x, where=torch.tensor([True, True, False]))
    assert p.tolist() == [[0.75, 0.25, 0.0]] and p.dtype == dtype
    p[0, 0].backward()
    assert x.grad.tolist() == [[0.5, -0.5, 0.0]]
"""
    import subprocess
    import sys

    if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        code = code.replace("del torch.Tensor.__dlpack_c_exchange_api__\n", "")
    subprocess.run([sys.executable, "-c", code], check=True)
