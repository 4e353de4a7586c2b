"""RG2, RGx and their factors: against the definition over all items, and against what exact steps imply."""

import os
import subprocess
import sys

import numpy as np
import pytest

import softmaxfam_rs as sf

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")

USERS, ITEMS, RANK = 12, 9, 4
LOSSES = {"rgx": sf.rgx_loss, "rg2": sf.rg2_loss}
losses = pytest.mark.parametrize("name", LOSSES)
weights = pytest.mark.parametrize("w", [0.0, 0.4])


def problem(scale=0.5):
    rng = np.random.default_rng(0)
    dense = (rng.random((USERS, ITEMS)) < 0.4).astype(float)
    dense[3] = 0  # a user without interactions
    dense[:, 5] = 0  # an item without any
    factors = (scale * rng.standard_normal((count, RANK)) for count in (USERS, ITEMS))
    return (*factors, sparse.csr_array(dense))


def defined(name, users, items, interactions, w):
    """The loss of each user by all its scores."""
    scores, y = users @ items.T, interactions.toarray()
    k, mean = y.sum(axis=1), scores.mean(axis=1)
    if name == "rgx":
        second = (scores**2).mean(axis=1) / 2 - mean**2 / 2
        found = -(y * scores).sum(axis=1) + k * (np.log(ITEMS) + mean + second)
    else:
        found = -(y * scores).sum(axis=1) + k * (((scores + 1) ** 2).mean(axis=1) / 2 + np.log(ITEMS) - 0.5)
    return found + w * (y * (scores - 1) ** 2).sum(axis=1)


@losses
@weights
def test_values(name, w):
    users, items, interactions = problem()
    want = defined(name, users, items, interactions, w)
    call = LOSSES[name]
    np.testing.assert_allclose(call(users, items, interactions, w=w, reduction="none"), want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(call(users, items, interactions, w=w), want.mean(), rtol=1e-12)
    np.testing.assert_allclose(call(users, items, interactions.tocoo(), w=w, reduction="sum"), want.sum(), rtol=1e-12)
    found = call(users.astype(np.float32), items.astype(np.float32), interactions, w=w)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want.mean(), rtol=1e-6)
    assert want[3] == 0


@losses
@weights
def test_gradients_and_products_with_the_hessian(name, w):
    users, items, interactions = problem()
    with_grad, hvp = getattr(sf, f"{name}_loss_and_grad"), getattr(sf, f"{name}_loss_hvp")
    rng = np.random.default_rng(1)
    direction = (rng.standard_normal(users.shape), rng.standard_normal(items.shape))
    for reduction in ("mean", "sum", "none"):
        options = {"w": w, "reduction": reduction}
        loss, grad = with_grad(users, items, interactions, **options)
        np.testing.assert_array_equal(loss, LOSSES[name](users, items, interactions, **options))
        step = 1e-5
        ends = [
            with_grad(users + t * direction[0], items + t * direction[1], interactions, **options)
            for t in (step, -step)
        ]
        slope = (ends[0][0] - ends[1][0]).sum() / (2 * step)
        np.testing.assert_allclose(sum((g * d).sum() for g, d in zip(grad, direction, strict=True)), slope, rtol=1e-7)
        product = hvp(users, items, interactions, direction, **options)
        for part, up, down in zip(product, ends[0][1], ends[1][1], strict=True):
            np.testing.assert_allclose(part, (up - down) / (2 * step), rtol=1e-5, atol=1e-8)


def test_the_hessian_is_symmetric():
    users, items, interactions = problem()
    rng = np.random.default_rng(2)
    a, b = ((rng.standard_normal(users.shape), rng.standard_normal(items.shape)) for _ in range(2))
    for name in LOSSES:
        hvp = getattr(sf, f"{name}_loss_hvp")
        along = [
            sum((x * y).sum() for x, y in zip(hvp(users, items, interactions, p, w=0.3), q, strict=True))
            for p, q in ((a, b), (b, a))
        ]
        np.testing.assert_allclose(along[0], along[1], rtol=1e-12)


def test_rgx_is_shift_invariant_and_near_the_softmax_loss():
    users, items, interactions = problem(0.2)
    wide, shifted = np.c_[users, np.ones(USERS)], np.c_[items, np.full(ITEMS, 3.0)]
    plain = sf.rgx_loss(users, items, interactions, reduction="none")
    np.testing.assert_allclose(sf.rgx_loss(wide, shifted, interactions, reduction="none"), plain, atol=1e-12)
    scores = users @ items.T
    exact = interactions.toarray() @ np.ones(ITEMS) * sf.logsumexp(scores) - (interactions.toarray() * scores).sum(
        axis=1
    )
    bound = interactions.toarray().sum(axis=1) * np.ptp(scores, axis=1) ** 3 / (36 * np.sqrt(3))
    assert (np.abs(plain - exact) <= bound + 1e-12).all()
    between = sf.rg2_loss(users, items, interactions, reduction="none") - plain
    np.testing.assert_allclose(between, interactions.toarray().sum(axis=1) * scores.mean(axis=1) ** 2 / 2, atol=1e-12)


def test_free_scores_reach_the_population_optimum():
    # one-hot factors of items leave the scores of a user free: N y / k - 1, of RGx up to a constant
    _, _, interactions = problem()
    y = interactions.toarray()
    k = y.sum(axis=1, keepdims=True)
    best = np.where(k > 0, ITEMS * y / np.maximum(k, 1) - 1, 0)
    for name, shift in (("rg2", 0.0), ("rgx", 0.7)):
        _, grad = getattr(sf, f"{name}_loss_and_grad")(best + shift, np.eye(ITEMS), interactions)
        np.testing.assert_allclose(grad.users, 0, atol=1e-14)


def penalised_gradients(model, interactions):
    call = getattr(sf, f"{model.loss}_loss_and_grad")
    users, items = (factors.astype(np.float64) for factors in (model.user_factors_, model.item_factors_))
    loss, grad = call(users, items, interactions, w=model.w, reduction="sum")
    rho = model.regularization
    total = loss + rho / 2 * ((users**2).sum() + (items**2).sum())
    return total / len(users), grad.users + rho * users, grad.items + rho * items


@losses
@weights
def test_steps_are_exact(name, w):
    _, _, interactions = problem()
    model = sf.RGFactorizer(name, rank=RANK, w=w, regularization=0.3, iterations=1).fit(interactions)
    objective, _, of_items = penalised_gradients(model, interactions)
    np.testing.assert_allclose(model.objective_[-1], objective, rtol=1e-6)
    if name == "rg2" or w == 0:
        assert np.abs(of_items).max() < 3e-6
    model.user_factors_ = model.transform(interactions)
    _, of_users, _ = penalised_gradients(model, interactions)
    assert np.abs(of_users).max() < 3e-6


@losses
@weights
def test_the_objective_falls_to_a_point_where_the_gradient_vanishes(name, w):
    _, _, interactions = problem()
    model = sf.RGFactorizer(name, rank=RANK, w=w, regularization=0.3, iterations=400).fit(interactions)
    assert (np.diff(model.objective_) <= 1e-6).all() and model.objective_[-1] < model.objective_[0]
    _, of_users, of_items = penalised_gradients(model, interactions)
    assert max(np.abs(of_users).max(), np.abs(of_items).max()) < 2e-3


def test_without_a_weight_both_losses_take_the_same_steps():
    _, _, interactions = problem()
    models = [
        sf.RGFactorizer(name, rank=RANK, w=0, iterations=7, regularization=0.1).fit(interactions) for name in LOSSES
    ]
    # but for the first users, whose items are not centred yet
    scores = [model.user_factors_ @ model.item_factors_.T for model in models]
    assert np.abs(models[0].item_factors_.mean(axis=0)).max() < 1e-6
    first = [
        sf.RGFactorizer(name, rank=RANK, w=0, iterations=1, regularization=0.1).fit(interactions) for name in LOSSES
    ]
    assert np.abs(first[0].user_factors_ - first[1].user_factors_).max() > 1e-3
    for model in models:
        model.item_factors_ = first[0].item_factors_
    np.testing.assert_allclose(*(model.transform(interactions) for model in models), atol=1e-4)
    assert scores[0].shape == scores[1].shape


def test_a_small_weight_is_near_none():
    _, _, interactions = problem()
    a, b = (sf.RGFactorizer("rg2", rank=RANK, w=w, regularization=0.3).fit(interactions) for w in (0.0, 1e-9))
    np.testing.assert_allclose(a.user_factors_, b.user_factors_, atol=1e-4)


def planted(users=300, items=200, rank=3):
    rng = np.random.default_rng(5)
    scores = rng.standard_normal((users, rank)) @ rng.standard_normal((items, rank)).T + 0.3 * rng.gumbel(
        size=(users, items)
    )
    best = np.argpartition(-scores, 24, axis=1)[:, :24]
    best = rng.permuted(best, axis=1)
    train = sparse.csr_array(
        (np.ones(users * 20), best[:, 4:].ravel(), np.arange(users + 1) * 20), shape=(users, items)
    )
    return train, best[:, :4]


@pytest.mark.parametrize(("name", "w"), [("rgx", 0.0), ("rgx", 0.1), ("rg2", 0.1)])
def test_planted_factors_are_found(name, w):
    train, held = planted()
    model = sf.RGFactorizer(name, rank=3, w=w, regularization=3.0).fit(train)
    found = model.recommend(np.arange(300), 10, exclude=train).indices
    recall = (found[:, :, None] == held[:, None, :]).any(axis=2).sum(axis=1).mean() / 4
    assert recall > 0.5, recall  # by chance 0.05


def test_recommend_excludes_and_takes_factors():
    train, _ = planted()
    model = sf.RGFactorizer(rank=3, iterations=3).fit(train)
    found = model.recommend([4, 9], 5, exclude=train[[4, 9]])
    assert not (train.toarray()[[4, 9]][np.arange(2)[:, None], found.indices] > 0).any()
    again = model.recommend(model.transform(train)[[4]], 5)
    assert again.indices.shape == (1, 5) and np.isfinite(again.log_probs).all()
    np.testing.assert_array_equal(model.recommend(4, 5).indices, model.recommend([4], 5).indices[0])


def test_save_and_load(tmp_path):
    train, _ = planted()
    model = sf.RGFactorizer("rg2", rank=3, w=0.2, iterations=2).fit(train)
    model.save(tmp_path / "model.safetensors")
    again = sf.RGFactorizer.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model) and again.objective_ == model.objective_
    np.testing.assert_array_equal(again.user_factors_, model.user_factors_)
    np.testing.assert_array_equal(again.item_factors_, model.item_factors_)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        model.save(tmp_path / "model.npz")
    sf.HierarchicalSoftmax([1, 2], width=2).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"must be a file of RGFactorizer\.save"):
        sf.RGFactorizer.load(tmp_path / "other.safetensors")


def test_the_same_bits_for_any_threads_and_instructions():
    code = (
        "import sys, numpy as np, softmaxfam_rs as sf\n"
        "from scipy.sparse import random_array\n"
        "m = random_array((3000, 900), density=.02, rng=np.random.default_rng(0), format='csr')\n"
        "for w in (0., .3):\n"
        "    f = sf.RGFactorizer(rank=20, w=w, iterations=2).fit(m)\n"
        "    sys.stdout.buffer.write(f.user_factors_.tobytes() + f.item_factors_.tobytes())\n"
    )
    outputs = []
    for threads, isa in (("1", ""), ("3", ""), ("2", "generic")):
        environment = {"SOFTMAXFAM_NUM_THREADS": threads} | ({"SOFTMAXFAM_ISA": isa} if isa else {})
        run = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ, **environment}
        )
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) == 2 * 3900 * 20 * 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda u, v, m: sf.rgx_loss(u[:, :2], v, m), ValueError, "U has 2 columns and V 4"),
        (lambda u, v, m: sf.rgx_loss(u[:-1], v, m), ValueError, "must have 11 as U has"),
        (lambda u, v, m: sf.rgx_loss(u, v[0], m), ValueError, "V has shape"),
        (lambda u, v, m: sf.rgx_loss(u, v * 1j, m), TypeError, "V has dtype complex128"),
        (lambda u, v, m: sf.rgx_loss(u, v, m.toarray()), TypeError, "interactions is a ndarray"),
        (lambda u, v, m: sf.rg2_loss(u, v, m, w=-1.0), ValueError, "w is -1.0"),
        (lambda u, v, m: sf.rg2_loss(u, v, m, reduction="max"), ValueError, "reduction is 'max'"),
        (lambda u, v, m: sf.rg2_loss_hvp(u, v, m, (u, u)), ValueError, "direction has shape"),
        (lambda u, v, m: sf.RGFactorizer("als"), ValueError, "loss is 'als'"),
        (lambda u, v, m: sf.RGFactorizer(rank=0), ValueError, "rank is 0"),
        (lambda u, v, m: sf.RGFactorizer(regularization=0.0), ValueError, "regularization is 0.0"),
        (lambda u, v, m: sf.RGFactorizer().recommend([0]), ValueError, "call fit first"),
        (lambda u, v, m: sf.RGFactorizer(rank=2).fit(m).recommend([12]), ValueError, "users holds 12"),
        (lambda u, v, m: sf.RGFactorizer(rank=2).fit(m).transform(m[:, :3]), ValueError, "must have 9"),
        (lambda u, v, m: sf.RGFactorizer().fit(m[:0]), ValueError, "must have a user and an item"),
    ],
)
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(*problem())


def test_stored_zeros_are_no_interactions():
    users, items, interactions = problem()
    more = interactions.tolil()
    more[3, 5] = 1.0
    more = more.tocsr()
    more[3, 5] = 0.0
    np.testing.assert_allclose(sf.rgx_loss(users, items, more), sf.rgx_loss(users, items, interactions), rtol=1e-12)
