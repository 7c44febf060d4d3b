"""The models that the paper compares with, against published counts and other implementations.

The logits were written by `python -m benchmarks.peer_logits`: vision_transformer's Flax code for
ViT, timm's PyTorch code for BiT, with the parameters and images of `seeded` below.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models import bit, init, vit

pytestmark = pytest.mark.slow

# With 1,000 classes at 224 px: ViT as in vision_transformer's models_test.py, ViT-S and BiT as in
# timm.
COUNTS = {
    "S/32": 22_878_952,
    "S/16": 22_050_664,
    "B/32": 88_224_232,
    "B/16": 86_567_656,
    "L/32": 306_535_400,
    "L/16": 304_326_632,
    "H/14": 632_045_800,
    "R50x1": 25_549_352,
    "R50x2": 97_988_712,
    "R50x3": 217_319_080,
    "R101x1": 44_541_480,
    "R101x3": 387_934_888,
    "R152x1": 60_185_128,
    "R152x2": 236_335_208,
    "R152x4": 936_533_224,
    "R200x3": 568_633_000,
}


def shapes(module):
    """The parameters' shapes by their names, in the order of the names."""
    image = jnp.zeros((1, *module.image_size, module.image_channels))
    tree = jax.eval_shape(lambda: module.init(jax.random.key(0), image))["params"]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def seeded(module):
    """(parameters by name, images [2, h, w, c]) that are nowhere zero, from NumPy's generator."""
    rng = np.random.default_rng(0)
    named = {name: rng.normal(0, 0.3, shape) for name, shape in sorted(shapes(module).items())}
    images = rng.uniform(-1, 1, (2, *module.image_size, module.image_channels))
    return {name: x.astype(np.float32) for name, x in named.items()}, images.astype(np.float32)


def nested(named):
    """Parameters by name to a tree."""
    tree = {}
    for name, array in named.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def apply(module, params, images, **kwargs):
    """module.apply in one compiled program; primitive by primitive takes seconds."""
    run = jax.jit(lambda params, images: module.apply({"params": params}, images, **kwargs))
    return run(params, images)


def small_vit(**fields):
    sizes = dict(patch_size=4, num_blocks=2, hidden_dim=8, mlp_dim=16, num_heads=2)
    return vit.create(**(dict(num_classes=5, image_size=(8, 12)) | sizes | fields))


def small_bit(**fields):
    sizes = dict(stages=(2, 1), width=8, groups=4)
    return bit.create(**(dict(num_classes=5, image_size=(33, 40)) | sizes | fields))


SMALL = pytest.mark.parametrize("small", [small_vit, small_bit])


def test_every_variant_has_a_count():
    assert set(vit.VARIANTS) | set(bit.VARIANTS) == set(COUNTS)


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_are_the_published_ones(variant):
    module = (vit if "/" in variant else bit).create(variant)
    assert sum(np.prod(shape) for shape in shapes(module).values()) == COUNTS[variant]


@pytest.mark.parametrize(
    ("small", "logits"),
    [
        (
            small_vit,
            [
                [0.27042663, -1.1324064, -0.87932146, -0.86806524, -0.42493805],
                [0.30018938, -1.1214632, -0.8592956, -0.8533884, -0.43076754],
            ],
        ),
        (
            small_bit,
            [
                [-0.0318951, 0.8202201, -0.3711072, 0.37452668, -0.7701353],
                [0.01427526, 0.73379344, -0.38177803, 0.3953696, -0.78778934],
            ],
        ),
    ],
)
def test_logits_equal_those_of_another_implementation(small, logits, highest_precision):
    module = small()
    params, images = seeded(module)
    ours = apply(module, nested(params), images)
    np.testing.assert_allclose(ours, np.array(logits), atol=2e-5)


@SMALL
def test_an_image_has_no_influence_on_another(small):
    module = small()
    params, images = seeded(module)
    gradient = jax.jit(jax.grad(lambda x: apply(module, nested(params), x)[0].sum()))(images)
    assert np.abs(gradient[0]).max() > 0
    assert np.abs(gradient[1:]).max() == 0


@SMALL
def test_the_interface_is_that_of_the_mixer(small):
    module = small(head_bias=-2.0, dtype=jnp.bfloat16)
    params, images = seeded(module)
    fresh = init.init(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {np.dtype("float32")}
    np.testing.assert_array_equal(apply(module, fresh, images), np.full((2, 5), np.float32(-2)))
    params = nested(params)
    logits, features = apply(module, params, images, return_features=True)
    head = params.pop("head")
    pooled = apply(module.clone(num_classes=0), params, images)
    assert logits.dtype == pooled.dtype == jnp.float32
    np.testing.assert_array_equal(pooled, features["pre_logits"])
    np.testing.assert_allclose(logits, pooled @ head["kernel"] + head["bias"], atol=1e-4)
    with pytest.raises(ValueError, match=r"\(2, 7, 7, 3\)"):
        apply(module, params, np.zeros((2, 7, 7, 3), np.float32))


def test_dropout_of_a_vit_acts_in_training_only():
    module = small_vit(dropout_rate=0.5)
    params, images = seeded(module)
    params = nested(params)
    runs = [
        apply(module, params, images, train=True, rngs={"dropout": jax.random.key(i)})
        for i in (0, 1)
    ]
    assert np.abs(runs[0] - runs[1]).max() > 0
    np.testing.assert_array_equal(apply(module, params, images), apply(small_vit(), params, images))


def test_the_stem_for_small_images_keeps_their_size():
    module = small_bit(image_size=32, stem="3x3")
    params, images = seeded(module)
    _, features = apply(module, nested(params), images, return_features=True)
    assert features["stem"].shape == (2, 32, 32, 8)
    assert features["stage_1"].shape == (2, 16, 16, 64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vit.create("B16"), ["B16", "B/16"]),
        (lambda: vit.create("B/16", image_size=225), ["225x225", "16x16"]),
        (lambda: vit.create("B/16", num_heads=7), ["768", "7 heads"]),
        (lambda: vit.create("B/16", width=7), ["width", "hidden_dim"]),
        (lambda: bit.create("R51x1"), ["R51x1", "R50x1"]),
        (bit.create, ["stages"]),
        (lambda: bit.create("R50x1", stem="5x5"), ["5x5", "3x3"]),
        (lambda: bit.create("R50x1", width=40), ["40", "32 groups"]),
    ],
)
def test_an_impossible_model_is_refused_with_what_is_wrong(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value
