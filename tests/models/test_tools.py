"""Every transformation of JAX and every tool of Flax, on every model, as on plain Flax layers.

A row of TRANSFORMATIONS does something to a function of parameters, and says by other means what
has to come out: with reverse mode alone, or one example after the other. For the Mixer these other
means get a Mixer of Flax's own layers, written here.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax import export

from mlp_mixer.models import bit, mixer, vit
from mlp_mixer.models.init import init

from ..conftest import nowhere_zero, x64

pytestmark = pytest.mark.slow


class PlainMixer(nn.Module):
    """The Mixer of `small` with nothing but Flax's own layers, and the same names."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        def mlp(y: jax.Array, width: int, name: str) -> jax.Array:
            return PlainMlp(width, name=name)(y)

        x = nn.Conv(4, (4, 4), strides=(4, 4), padding="VALID", name="stem")(images)
        x = x.reshape(x.shape[0], -1, 4)
        x = PlainBlock(mlp, name="MixerBlock_0")(x)
        x = nn.LayerNorm(name="pre_head_layer_norm")(x)
        return nn.Dense(3, name="head")(x.mean(1))


class PlainMlp(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(nn.Dense(self.width)(x))
        return nn.Dense(x.shape[-1])(y)


class PlainBlock(nn.Module):
    mlp: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x).swapaxes(1, 2)
        x = x + self.mlp(y, 5, "token_mixing").swapaxes(1, 2)
        return x + self.mlp(nn.LayerNorm()(x), 6, "channel_mixing")


def small(name: str, **fields: Any) -> nn.Module:
    sizes: dict[str, Any] = dict(num_classes=3, image_size=8)
    if name == "Mixer":
        sizes |= dict(patch_size=4, num_blocks=1, hidden_dim=4)
        return mixer.create(**sizes, tokens_mlp_dim=5, channels_mlp_dim=6, **fields)
    if name == "ViT":
        sizes |= dict(patch_size=4, num_blocks=1, hidden_dim=4)
        return vit.create(**sizes, mlp_dim=6, num_heads=2, **fields)
    return bit.create(**sizes, stages=(1,), width=4, groups=2, stem="3x3", **fields)


class Case(NamedTuple):
    """A model as a function params -> scalar, and what reverse mode makes of it for each image.

    `loss` has a jit of its own, so that a model is traced once and not for every transformation.
    """

    module: nn.Module
    loss: Callable  # (params, images) -> scalar
    untraced: Callable  # the same without its jit
    params: Any
    tangent: Any
    images: jax.Array
    gradients: Callable  # params -> the (loss, gradient) of each image alone, by Flax's own layers
    hvp: Callable  # tangent -> the Hessian at `params` times the tangent, by Flax's own layers


@pytest.fixture(scope="module", params=["Mixer", "ViT", "BiT"])
def case(request) -> Case:
    module = small(request.param)
    rng = np.random.default_rng(0)

    def like(tree: Any, scale: float) -> Any:
        return jax.tree.map(lambda x: jnp.float32(rng.normal(0, scale, x.shape)), tree)

    def loss_of(module: nn.Module, params: Any, images: jax.Array) -> jax.Array:
        return jnp.square(module.apply({"params": params}, images)).sum()

    params = like(jax.eval_shape(partial(init, module)), 0.5)
    images = jnp.float32(rng.uniform(-1, 1, (2, 8, 8, 3)))
    plain = jax.jit(partial(loss_of, PlainMixer() if request.param == "Mixer" else module))
    of_one = jax.jit(jax.value_and_grad(plain))

    @jax.jit
    def twice(params: Any, tangent: Any) -> Any:
        return jax.grad(lambda p: dot(jax.grad(plain)(p, images), tangent))(params)

    def highest(function: Callable) -> Callable:
        return jax.default_matmul_precision("highest")(function)

    return Case(
        module=module,
        loss=jax.jit(partial(loss_of, module)),
        untraced=partial(loss_of, module),
        params=params,
        tangent=like(params, 1.0),
        images=images,
        gradients=highest(lambda params: [of_one(params, x[None]) for x in images]),
        hvp=highest(lambda tangent: twice(params, tangent)),
    )


def dot(a: Any, b: Any) -> jax.Array:
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def of_head_bias(loss: Callable, params: Any) -> Callable:
    return lambda bias: loss(params | {"head": params["head"] | {"bias": bias}})


def near_input(params: Any) -> tuple[str, ...]:
    """The name of a small array near the input: of the first block's first normalisation."""
    blocks = {"MixerBlock_0", "encoderblock_0", "stage1_unit1"}
    names = sorted(traverse_util.flatten_dict(params))
    return next(name for name in names if blocks & {*name} and name[-1] == "bias")


def of_one(loss: Callable, params: Any) -> tuple[Callable, jax.Array]:
    """The loss as a function of that array, and the array."""
    flat, name = traverse_util.flatten_dict(params), near_input(params)
    return lambda x: loss(traverse_util.unflatten_dict(flat | {name: x})), flat[name]


def hessian_by_rows(case: Case) -> jax.Array:
    """The Hessian by that array from products with the unit vectors."""
    name = near_input(case.params)
    zeros = traverse_util.flatten_dict(jax.tree.map(np.zeros_like, case.params))
    units = np.eye(len(zeros[name]), dtype=np.float32)
    trees = (traverse_util.unflatten_dict(zeros | {name: unit}) for unit in units)
    return np.stack([traverse_util.flatten_dict(case.hvp(tree))[name] for tree in trees])


def total(case: Case, params: Any = None) -> Any:
    """Loss and gradient for all images."""
    each = case.gradients(case.params if params is None else params)
    return jax.tree.map(lambda *x: sum(x), *each)


def gradient(case: Case, params: Any = None) -> Any:
    return total(case, params)[1]


def stacked(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


# (loss, params, tangent) -> result, and what it has to be by reverse mode of the plain model.
TRANSFORMATIONS: dict[str, tuple[Callable, Callable]] = {
    "value": (lambda f, p, v: f(p), lambda case: total(case)[0]),
    "grad": (lambda f, p, v: jax.grad(f)(p), gradient),
    "vjp": (
        lambda f, p, v: jax.vjp(f, p)[1](2.0)[0],
        lambda case: jax.tree.map(lambda g: 2 * g, gradient(case)),
    ),
    "jvp": (
        lambda f, p, v: jax.jvp(f, (p,), (v,))[1],
        lambda case: dot(gradient(case), case.tangent),
    ),
    "linearize": (
        lambda f, p, v: jax.linearize(f, p)[1](v),
        lambda case: dot(gradient(case), case.tangent),
    ),
    "jacfwd": (
        lambda f, p, v: jax.jacfwd(of_head_bias(f, p))(p["head"]["bias"]),
        lambda case: gradient(case)["head"]["bias"],
    ),
    "hessian": (lambda f, p, v: jax.hessian(of_one(f, p)[0])(of_one(f, p)[1]), hessian_by_rows),
    "hvp": (
        lambda f, p, v: jax.jvp(jax.grad(f), (p,), (v,))[1],
        lambda case: case.hvp(case.tangent),
    ),
    "checkpoint": (lambda f, p, v: jax.grad(jax.checkpoint(f))(p), gradient),
    "vmap": (
        lambda f, p, v: jax.vmap(jax.grad(f))(jax.tree.map(lambda *x: jnp.stack(x), p, v)),
        lambda case: stacked(gradient(case), gradient(case, case.tangent)),
    ),
    "vmap of jvp": (
        lambda f, p, v: jax.vmap(lambda v: jax.jvp(f, (p,), (v,))[1])(
            jax.tree.map(lambda *x: jnp.stack(x), p, v)
        ),
        lambda case: np.stack([dot(gradient(case), x) for x in (case.params, case.tangent)]),
    ),
}


def assert_close(found: Any, wanted: Any) -> None:
    scale = max(float(np.abs(x).max()) for x in jax.tree.leaves(wanted))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5 * scale), found, wanted
    )


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_transformation_gives_what_it_is_defined_to_be(case, name, highest_precision):
    transform, definition = TRANSFORMATIONS[name]
    found = jax.jit(partial(transform, partial(case.loss, images=case.images)))
    assert_close(found(case.params, case.tangent), definition(case))


def test_per_example_gradients_are_those_of_each_example_alone(case, highest_precision):
    each = jax.jit(jax.vmap(jax.grad(lambda p, x: case.loss(p, x[None])), in_axes=(None, 0)))
    alone = [gradient for _, gradient in case.gradients(case.params)]
    assert_close(each(case.params, case.images), stacked(*alone))


def test_shapes_are_known_without_computing(case):
    found = jax.eval_shape(case.module.apply, {"params": case.params}, case.images)
    assert (found.shape, found.dtype) == ((2, 3), jnp.float32)


@contextmanager
def strict():
    """What changes nothing but stops a program where it may go wrong."""
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        yield


@pytest.mark.parametrize(
    "setting",
    [strict, jax.disable_jit, x64],
    ids=["rank promotion and NaN raise", "disable_jit", "x64"],
)
def test_a_setting_of_jax_changes_no_number_and_no_type(case, setting, highest_precision):
    wanted, fresh, function = total(case), init(case.module, 3), jax.value_and_grad(case.untraced)
    make = partial(init, case.module, 3)
    # Without jit each operation is compiled for itself, which takes long. The Mixer's layers define
    # derivatives of their own; those of ViT and BiT are JAX's, and one function makes parameters of
    # all models.
    if setting is jax.disable_jit and not isinstance(case.module, mixer.MlpMixer):
        wanted, function, make = wanted[0], case.untraced, lambda: fresh
    with setting():
        found = jax.jit(function)(case.params, case.images)
        again = make()
    assert_close(found, wanted)
    for new, old in ((found, wanted), (again, fresh)):
        assert [x.dtype for x in jax.tree.leaves(new)] == [x.dtype for x in jax.tree.leaves(old)]
    assert_close(again, fresh)


def test_it_is_exported_for_any_number_of_images(case):
    (n,) = export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((n, 8, 8, 3), jnp.float32)
    apply = jax.jit(lambda x: case.module.apply({"params": case.params}, x))
    exported = export.export(apply, platforms=("cpu", "cuda", "tpu"))(images)
    for count in (1, 2):
        found = exported.call(case.images[:count])
        np.testing.assert_allclose(found, apply(case.images[:count]), atol=1e-5)


def test_in_bfloat16_logits_and_gradients_stay_near_and_float32(case):
    def logits_of(module: nn.Module, params: Any) -> jax.Array:
        return module.apply({"params": params}, case.images)

    half = case.module.clone(dtype=jnp.bfloat16)
    logits, wanted = (jax.jit(partial(logits_of, m))(case.params) for m in (half, case.module))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, wanted, atol=0.1 * float(jnp.abs(wanted).max()))
    grads = jax.eval_shape(jax.grad(lambda p: logits_of(half, p).sum()), case.params)
    assert {x.dtype for x in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}


# --- Flax ---


@pytest.fixture
def deep(case) -> tuple[nn.Module, Any]:
    """The model with two blocks, where it has blocks, and parameters that are zero nowhere."""
    module = case.module
    if not isinstance(module, bit.BiT):
        module = module.clone(num_blocks=2)
    return module, nowhere_zero(module, np.random.default_rng(0), 0.5)


# A part of the last block, and the layer whose output is the part's.
PARTS = {
    "MlpMixer": (("MixerBlock_1", "channel_mixing"), "Dense_1"),
    "VisionTransformer": (("Transformer", "encoderblock_1", "MlpBlock_0"), "Dense_1"),
    "BiT": (("stage1_unit1", "conv3"), None),
}


def test_an_interceptor_acts_only_where_and_while_it_is_set(case, deep):
    module, full = deep
    path, last = PARTS[type(module).__name__]
    layer = path if last is None else (*path, last)
    flat = traverse_util.flatten_dict(full)
    without = {k: v * 0 if k[: len(layer)] == layer else v for k, v in flat.items()}

    def ablate(next_function, args, kwargs, context):
        y = next_function(*args, **kwargs)
        is_it = context.method_name == "__call__" and context.module.path == path
        return jnp.zeros_like(y) if is_it else y

    def apply(params: Any = full) -> jax.Array:
        """By a function of its own each time, which JAX therefore traces each time."""
        return jax.jit(lambda p: module.apply({"params": p}, case.images))(params)

    before, wanted = apply(), apply(traverse_util.unflatten_dict(without))
    assert float(jnp.abs(before - wanted).max()) > 1e-3
    for forget in (lambda: None, jax.clear_caches):  # what was traced before must not matter
        forget()
        with nn.intercept_methods(ablate):
            np.testing.assert_allclose(apply(), wanted, atol=1e-5)
        np.testing.assert_array_equal(apply(), before)


def test_captures_hold_what_their_filter_asks_for_every_time(case, deep):
    blocks = (mixer.MixerBlock, vit.EncoderBlock, bit.Unit)
    module, params = deep

    def captured(wanted) -> set[str]:
        _, state = module.apply(
            {"params": params}, case.images,
            capture_intermediates=wanted, mutable=["intermediates"],
        )  # fmt: skip
        return set(traverse_util.flatten_dict(state["intermediates"], sep="/"))

    def some() -> set[str]:
        return captured(lambda module, name: isinstance(module, blocks) and name == "__call__")

    jax.clear_caches()
    few, everything = some(), captured(True)
    assert len(few) == (1 if isinstance(module, bit.BiT) else 2)
    assert len(everything) > 10 and few < everything
    assert (some(), captured(True)) == (few, everything)


def test_a_table_of_the_model_names_its_parts(case):
    table = nn.tabulate(case.module, jax.random.key(0), console_kwargs={"width": 300})(case.images)
    for part in case.params:
        assert part in table
