"""Which backend a call goes to, what that imports, and what is refused."""

import subprocess
import sys
from inspect import signature
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import softmaxfam_rs as sf
from backends import BACKENDS, LINEAR, LOSSES, SAMPLED, on_each_backend, on_each_other_backend
from softmaxfam_rs._capabilities import CAPABILITIES, FUNCTIONS, LIBRARIES, PATHS, table

OTHERS = ("torch", "cupy", "jax", "dask", "array_api_compat", "array_api_strict", "scipy", "ml_dtypes")
USE_NUMPY = """
import sys, numpy as np, softmaxfam_rs as sf
x = np.zeros((2, 3))
sf.entmax(x, np.ones((2, 1)), where=x == 0); sf.softmax([1.0, 2.0]); sf.logsumexp(x, weights=x); sf.top_log_probs(x, 2)
sf.entmax_threshold(x).tau(1.5); sf.entmax_sparse(x).to_dense(); sf.AliasTable([1.0, 2.0]).sample(3, rng=1)
print(*sys.modules)
"""
x = np.arange(12.0).reshape(3, 4)


def loaded_by(program):
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stdout.split()}


def test_importing_and_calling_with_numpy_imports_no_other_library():
    assert loaded_by("import sys, softmaxfam_rs; print(*sys.modules)").isdisjoint(OTHERS)
    assert loaded_by(USE_NUMPY).isdisjoint(OTHERS)


def test_what_takes_long_to_import_is_imported_when_it_is_asked_for():
    program = (
        "import sys, softmaxfam_rs as sf; print(*(module in sys.modules for module in {modules}))\n"
        "print(set(sf.__all__) <= set(dir(sf)), {use}, all(module in sys.modules for module in {modules}))"
    )
    modules = [f"softmaxfam_rs.{module}" for module in sf._LATER]
    for use in (
        "all(callable(getattr(sf, name)) for name in sf._HOMES)",
        "exec('from softmaxfam_rs import *') is None",
    ):
        code = program.format(modules=modules, use=use)
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.split() == ["False"] * len(modules) + ["True"] * 3
    with pytest.raises(AttributeError, match="module 'softmaxfam_rs' has no attribute 'sofmax'"):
        sf.sofmax  # noqa: B018  a misspelt name


@on_each_other_backend
def test_a_library_brings_in_no_other(backend):
    program = (
        f"import sys, {backend.module} as xp, softmaxfam_rs as sf; before = set(sys.modules)\n"
        "sf.softmax(xp.asarray([1.0, 2.0])); sf.entmax(xp.asarray([1.0, 2.0]), 1.3)\n"
        "print(*(set(sys.modules) - before))"
    )
    libraries = {other.module.partition(".")[0] for other in BACKENDS} - {"numpy", backend.module.partition(".")[0]}
    assert loaded_by(program).isdisjoint(libraries)


def test_cupy_is_known_by_its_class(monkeypatch):
    from softmaxfam_rs import _dispatch, _generic

    class ndarray:  # noqa: N801  its name in cupy
        pass

    stand_in = ModuleType("cupy")
    stand_in.ndarray = ndarray
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    monkeypatch.setattr(_dispatch, "_LIBRARY_OF", dict(_dispatch._LIBRARY_OF))
    assert _dispatch.library_of(ndarray()).name == "cupy"
    assert _dispatch.backend_of("softmax", ndarray(), None, 1.0) is _generic


def test_cupy_itself_is_recognised_without_a_gpu():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    from softmaxfam_rs._dispatch import _library_name

    assert _library_name(cupy.ndarray) == "cupy"


# of arrays of NumPy, some of torch's too: docs/backends.md names them below the table
BESIDE = {
    f"{name}{suffix}" for name in ("sampled_softmax", "nce", "negative_sampling") for suffix in ("", "_and_grad")
} | {f"{name}_loss{suffix}" for name in ("rg2", "rgx") for suffix in ("", "_and_grad", "_hvp")}
BESIDE.add("estimate_bias_variance")


def test_the_table_has_every_function_and_library():
    arrays = {name for name in sf.__all__ if name in FUNCTIONS}
    assert arrays == set(FUNCTIONS) == set(CAPABILITIES)
    takes_scores = {
        name for name in sf.__all__ if callable(getattr(sf, name)) and not isinstance(getattr(sf, name), type)
    }
    assert takes_scores - arrays == {"get_num_threads", "sample_scores", "set_num_threads", "show_config", *BESIDE}
    for row in CAPABILITIES.values():
        assert list(row) == list(LIBRARIES)
        assert all(found.path in PATHS and (found.path == "no") == bool(found.reason) for found in row.values())


def test_backends_have_the_public_signatures():
    from softmaxfam_rs import _generic, _numpy

    for name in set(FUNCTIONS) - {*LOSSES, *LINEAR, *SAMPLED}:  # which are one function each, or none
        parameters = [(p.name, p.kind, p.default) for p in signature(getattr(sf, name)).parameters.values()]
        for module in (_numpy, _generic):
            own = [(p.name, p.kind, p.default) for p in signature(getattr(module, name)).parameters.values()]
            assert own == parameters, (module.__name__, name)
    of_losses = [list(signature(module.loss).parameters) for module in (_numpy, _generic)]
    assert of_losses[0] == of_losses[1]


def test_the_docs_hold_the_table():
    page = (Path(__file__).parent.parent / "docs" / "backends.md").read_text(encoding="utf-8")
    assert table() in page, "write softmaxfam_rs._capabilities.table() into docs/backends.md"
    for path, meaning in PATHS.items():
        assert f"| {path} | {meaning} |" in page


def calls_with_two(given, other):
    """Calls with arrays of two libraries, and the argument that the error names."""
    return {
        "where": lambda: sf.softmax(given, where=other > 0),
        "temperature": lambda: sf.entmax(given, temperature=other[:, :1] + 1),
        "alpha": lambda: sf.entmax(given, other[:, :1] + 1),
        "weights": lambda: sf.logsumexp(given, weights=other),
        "budget": lambda: sf.budget_sparsemax(given, other[:, :1] * 0),
        "out": lambda: sf.log_softmax(given, out=other),
        "target": lambda: sf.entmax_loss(given, other),
        "weight": lambda: sf.cross_entropy(given, given, weight=other[0, :]),
        "g": lambda: sf.entmax_vjp(given, other, 1.5),
        "lse": lambda: sf.logsumexp_vjp(given, other[:, 0], other[:, 0]),
    }


@on_each_other_backend
@pytest.mark.parametrize("argument", calls_with_two(None, x))
def test_two_libraries_are_refused(backend, argument):
    own = backend.array(x)
    with pytest.raises(TypeError) as caught:
        calls_with_two(own, x)[argument]()
    message = str(caught.value)
    assert f"{argument} is a numpy.ndarray" in message and f"{backend.module}.asarray({argument})" in message, message
    with pytest.raises(TypeError) as caught:
        calls_with_two(x, own)[argument]()
    message = str(caught.value)
    assert f"{argument} is a " in message and "numpy" in message.lower(), message


def test_lists_go_with_arrays_of_numpy():
    assert sf.softmax([1.0, 1.0], where=np.array([True, True])).tolist() == [0.5, 0.5]


@on_each_other_backend
def test_scores_that_are_a_list_beside_an_array(backend):
    with pytest.raises(TypeError, match=r"scores is a list.*convert scores"):
        sf.softmax([1.0, 2.0], temperature=backend.array(np.ones(1)))


@on_each_backend
def test_numbers_and_lists_go_with_every_library(backend):
    expected = sf.softmax(x, where=[True, False, True, True], temperature=np.float32(2))
    p = sf.softmax(backend.array(x.astype("f4")), where=[True, False, True, True], temperature=np.float32(2))
    np.testing.assert_allclose(backend.numpy(p), expected, rtol=1e-6)
    assert backend.is_own(p)
