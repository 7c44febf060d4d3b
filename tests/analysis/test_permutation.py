"""The symmetry of a Mixer behind the paper's permutation experiment, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mlp_mixer.analysis.permutation import Experiment, undo
from mlp_mixer.models import bit, mixer
from mlp_mixer.models.init import init
from mlp_mixer.models.permuted import Permuted, make_order, patch_order, permute

from ..conftest import nowhere_zero

pytestmark = pytest.mark.slow

IMAGE, PATCH = (8, 12), (4, 2)  # 2 x 6 patches of 8 pixels
RNG = np.random.default_rng(0)
PATCHES, INSIDE = RNG.permutation(12), RNG.permutation(8)
ORDER = patch_order(IMAGE, PATCH, PATCHES, INSIDE)


def compute(model, params, images):
    return np.asarray(jax.jit(model.apply)({"params": params}, images))


@pytest.fixture
def module():
    return mixer.create(
        num_classes=5, image_size=IMAGE, patch_size=PATCH, num_blocks=2, hidden_dim=8,
        tokens_mlp_dim=6, channels_mlp_dim=16,
    )  # fmt: skip


@pytest.fixture
def params(module):
    """Everywhere far from zero: nothing can agree because it is nothing."""
    return nowhere_zero(module, RNG, 0.4)


@pytest.fixture
def images():
    return RNG.uniform(-1, 1, (6, *IMAGE, 3)).astype("f4")


def test_the_bias_of_each_token_goes_with_it(module, params):
    """No output shows it: the next LayerNorm takes out what all channels of a token share."""
    new = undo(params, module, PATCHES, INSIDE)
    for i in range(2):
        old, moved = (
            p[f"MixerBlock_{i}"]["token_mixing"]["Dense_1"]["bias"] for p in (params, new)
        )
        np.testing.assert_array_equal(moved, [old[token] for token in PATCHES])


def test_permuting_images_equals_permuting_parameters(module, params, images, highest_precision):
    permuted = permute(images, ORDER)
    expected = compute(module, params, images)
    undone = undo(params, module, PATCHES, INSIDE)
    assert compute(module, undone, permuted) == pytest.approx(expected, abs=1e-5)
    unmoved = compute(module, params, permuted)
    assert np.abs(unmoved - expected).max() > 0.1  # it does see the permutation


def test_training_on_permuted_images_equals_permuted_parameters(
    module, params, images, highest_precision
):
    """So the two learning curves of figure 4 differ by the draw of the first weights only."""
    labels = jnp.arange(6) % 5
    tx = optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(params, state, images):
        def loss(params):
            logits = module.apply({"params": params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = tx.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    def train(params, images):
        state = tx.init(params)
        for _ in range(3):
            params, state = step(params, state, images)
        return params

    expected = undo(train(params, images), module, PATCHES, INSIDE)
    trained = train(undo(params, module, PATCHES, INSIDE), permute(images, ORDER))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), trained, expected)


def test_patches_move_and_their_pixels_move_alike():
    tokens = np.arange(IMAGE[0] * IMAGE[1]).reshape(2, 4, 6, 2).swapaxes(1, 2).reshape(12, 8)
    moved = ORDER.reshape(2, 4, 6, 2).swapaxes(1, 2).reshape(12, 8)
    assert (moved == tokens[PATCHES][:, INSIDE]).all()


def test_an_order_is_a_permutation_that_its_seed_decides():
    orders = [make_order("patches", IMAGE, PATCH, 1), make_order("pixels", IMAGE, PATCH, 1)]
    for order in orders:
        assert sorted(order) == list(range(IMAGE[0] * IMAGE[1]))
    assert (orders[0] != orders[1]).any()
    assert (make_order("patches", IMAGE, PATCH, 1) == orders[0]).all()
    assert (make_order("patches", IMAGE, PATCH, 2) != orders[0]).any()
    with pytest.raises(ValueError, match=r"'rows'.*patches or pixels"):
        make_order("rows", IMAGE, PATCH, 0)
    with pytest.raises(ValueError, match="not tiled"):
        make_order("patches", IMAGE, (3, 3), 0)


@pytest.mark.parametrize("order", ["patches", "pixels"])
@pytest.mark.parametrize("architecture", ["mixer", "bit"])
def test_a_permuted_model_is_the_model_on_permuted_images(order, architecture, module, images):
    model = module
    if architecture == "bit":
        model = bit.create(num_classes=5, image_size=IMAGE, stages=(1,), width=8, groups=4)
    permuted = Permuted(model, order, PATCH, seed=3)
    params = init(permuted)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, init(model))
    params = jax.tree.map(lambda x: RNG.normal(0, 0.4, x.shape).astype("f4"), params)
    moved = permute(images, permuted.pixel_order())
    expected = compute(model, params, moved)
    assert compute(permuted, params, images) == pytest.approx(expected)
    headless = {name: value for name, value in params.items() if name != "head"}
    features = compute(permuted.clone(num_classes=0), headless, images)
    expected = compute(model.clone(num_classes=0), headless, moved)
    assert features == pytest.approx(expected) and features.ndim == 2


@pytest.mark.parametrize(
    ("scalar", "named"), [("test/accuracy", "accuracy"), ("fewshot/5shot", "5shot accuracy")]
)
def test_the_axis_names_the_accuracy_once(scalar, named):
    figure = Experiment(scalar, {("mixer", "original"): [(1, 0.5), (2, 0.75)]}).figure()
    assert figure.axes[0].get_ylabel() == named


def test_the_legend_has_every_order_of_any_panel_once():
    points = [(1, 0.5), (2, 0.75)]
    keys = [("mixer", "pixels"), ("mixer", "original"), ("bit", "original"), ("bit", "patches")]
    figure = Experiment("test/accuracy", dict.fromkeys(keys, points)).figure()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == [
        "original", "patches + pixels inside", "all pixels",
    ]  # fmt: skip
    for handle, text in zip(legend.legend_handles, legend.texts, strict=True):
        for ax in figure.axes:
            for line in ax.lines:
                same = line.get_color() == handle.get_color()
                assert same == (line.get_label() == text.get_text())
                assert not same or line.get_marker() == handle.get_marker()
    assert not any(ax.get_legend() for ax in figure.axes)


def test_nothing_is_told_against_an_original_of_no_accuracy():
    original, pixels = [(1, 0.5), (2, 0.0)], [(2, 0.1)]
    found = Experiment("a/b", {("bit", "original"): original, ("bit", "pixels"): pixels})
    assert found.summary()[1:] == [
        ["ResNet (BiT)", "original", "2", "0.00%", ""],
        ["ResNet (BiT)", "all pixels", "2", "10.00%", ""],
    ]
