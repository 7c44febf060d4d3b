"""Token mixing on a TPU by the compiler's final schedule, as XLA compiles it and as one kernel.

    python -m benchmarks.tpu_token_mixing [--variant B/16] [--blocks 2]

The training step of configs/imagenet.py with a few blocks, 32 images on each device, is compiled
twice: as it is, and with a block's first LayerNorm and token mixing as one Pallas kernel for the
forward and one for the backward pass. A kernel reads and writes the activations once and keeps the
hidden layer in on-chip memory. It is checked first, in interpret mode, against the model.

The compiler gives a kernel no estimate, and its estimates of other operations are of a cost model.
But it can write out what it generates: each line ("bundle") is what the core issues in one cycle.
Lines times iterations are counted here for the operations of the blocks, of XLA and Pallas alike,
beside the estimates. What they leave out is waiting for memory. Needs libtpu; about ten minutes of
CPU time for each program.
"""

import argparse
import functools
import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from benchmarks.tpu_speed import CLASSES, EXAMPLES, our_config
from mlp_mixer.cli.output import table
from mlp_mixer.models import layers, mixer
from mlp_mixer.models.gelu import tanh_form
from mlp_mixer.planning import compiler, hlo
from mlp_mixer.planning.chips import parse_topology

TOPOLOGY, MATRIX_UNITS = "v5e:2x4", 4
IMAGES = 32  # on a device, which is what accumulation leaves of a batch at a time
LANES = 128
# Images that a kernel works on at once. Two lie in each 32-bit word, 16 fill a register.
GROUP = 16
F32, BF16, I32 = jnp.float32, jnp.bfloat16, jnp.int32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="B/16")
    parser.add_argument("--blocks", type=int, default=2)
    args = parser.parse_args()
    compiler.isolated(check_kernel)
    rows = [("Mcycles", "", "estimate", "schedule")]
    for form in ("XLA", "kernel"):
        found = compiler.isolated(compiled, form, args.variant, args.blocks)
        sums: dict[str, np.ndarray] = {}
        for operation in found:
            for name in (part_of(operation.source), "all of the blocks"):
                costs = np.array((operation.estimate, operation.schedule)) / 1e6
                sums[name] = sums.get(name, 0) + costs
        rows += [(form, name, *(f"{x:.2f}" for x in sums[name])) for name in sorted(sums)]
    print(table(rows))


def part_of(source: str) -> str:
    """The part of a block that an operation belongs to, by its name in the source."""
    if "token_mixing" in source or "LayerNorm_0" in source or source.endswith("pallas_call"):
        return "LayerNorm_0 and token mixing"
    if "channel_mixing" in source:
        return "channel mixing"
    return "LayerNorm_1 and sums of branches"


class Cost(NamedTuple):
    """Cycles of an operation in a step."""

    source: str
    estimate: int
    schedule: int


def compiled(form: str, variant: str, blocks: int) -> list[Cost]:
    """The operations of the blocks in a step; runs in a process of its own, which loads libtpu."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIBTPU_INIT_ARGS"] = (
            f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
            "--xla_jf_dump_llo_pass_label_regex=final_bundles"
        )
        if form == "kernel":
            mixer.MixerBlock = FusedBlock
        config = our_config(variant, IMAGES * parse_topology(TOPOLOGY).devices)
        config.model.num_blocks = blocks
        texts, parse = [], hlo.parse  # the text of the program is seen nowhere else
        hlo.parse = lambda text: texts.append(text) or parse(text)
        compiler.train_program(config, CLASSES, EXAMPLES, TOPOLOGY)
        operations = [o for o in parse(texts[0]).operations if "/MixerBlock" in o.source]
        # Of an operation that was generated again with smaller windows, the last counts.
        listings = {
            re.sub(r"^\d+-|-\d+-final_bundles$", "", path.stem): path.read_text()
            for path in sorted(Path(folder).glob("*[0-9]-final_bundles.txt"))
        }
    # Of operations that are alike only one is generated.
    alike = {
        (o.source, o.cycles, o.windows): listings[o.name] for o in operations if o.name in listings
    }
    costs = []
    for o in operations:
        listing = listings.get(o.name) or alike.get((o.source, o.cycles, o.windows))
        if listing is None:
            print("not written out:", o.source)
            listing = ""
        cycles = cycles_of(listing) * (o.windows if o.cycles else IMAGES // GROUP)
        costs.append(Cost(o.source, o.times * (o.cycles or 0), o.times * cycles))
    return costs


def cycles_of(listing: str) -> int:
    """Cycles of one iteration of the loop over windows, which is the outermost of a listing.

    The larger of its lines and of what its matrix units need: each of the four takes a row a cycle,
    an instruction has 16 rows in bfloat16 and 8 otherwise. (Counted so, the instructions of token
    mixing's products are just their arithmetic with padding.) The first and last parts of a loop,
    which do not run in each iteration, are counted as if they did. Inner loops are counted as often
    as they run where that is a constant.
    """
    loops = [[0, 0, 1]]  # the outermost first: lines, rows, and how often they run
    for label, depth, rest in re.findall(r"^ *0x\w+ +(\w*) *: (>*) *\{(.*)", listing, re.MULTILINE):
        inner = len(depth) > 1
        if inner and label == "LB":
            loops.append([0, 0, 1])
        loop = loops[-1 if inner else 0]
        loop[0] += 1
        for kind in re.findall(r"vmatmul([.\w]*)", rest):
            loop[1] += 8 if ".f32" in kind or ".lmr" in kind else 16
        if inner and (bound := re.search(r"totalorder %\w+, (\d+) /\* loop exit test", rest)):
            loop[2] = int(bound[1])
    return sum(max(lines, rows // MATRIX_UNITS) * times for lines, rows, times in loops)


# The kernels. x is [s, n, c], tokens outermost, as XLA lays the activations out for all else. n is
# the minor of the two axes that a register holds, so the tokens of one image are a strided load
# apart: of 32-bit words, in each of which two images lie.


def forward_kernel(*refs: Any) -> None:
    *x_refs, scale, bias, w1, b1, w2, b2, out_ref, x_words, out_words = refs
    spread(x_refs, x_words)

    def mix(x: jax.Array) -> jax.Array:
        _, _, y = norm(x, scale[...], bias[...])
        h = dot(w1[...], y.astype(BF16), (1, 0)) + b1[...]  # [d, c]
        z = dot(w2[...], tanh_form(h).astype(BF16), (1, 0)) + b2[...]  # [s, c]
        return x + z.astype(BF16).astype(F32)

    @pair_loop
    def _(pair: jax.Array) -> None:
        store(out_words, pair, *map(mix, load(x_words, pair)))

    collect(out_words, out_ref)


def backward_kernel(*refs: Any) -> None:
    (*given, scale, bias, w1, b1, w2, _), outputs = refs[:-10], refs[-10:]
    dx_ref, dscale, dbias, dw1, db1, dw2, db2, x_words, dout_words, dx_words = outputs
    half = len(given) // 2
    spread(given[:half], x_words)
    spread(given[half:], dout_words)

    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        for sums in (dscale, dbias, dw1, db1, dw2, db2):
            sums[...] = jnp.zeros(sums.shape, sums.dtype)

    def back(x: jax.Array, dout: jax.Array) -> jax.Array:
        centred, over_std, y = norm(x, scale[...], bias[...])
        y, dz = y.astype(BF16), dout.astype(BF16)
        h = dot(w1[...], y, (1, 0)) + b1[...]
        g, slope = jax.jvp(tanh_form, (h,), (jnp.ones_like(h),))
        dw2[...] += dot(dz, g.astype(BF16), (1, 1))  # [s, d]
        db2[...] += dout.sum(1, keepdims=True)
        dh = dot(w2[...], dz, (0, 0)) * slope  # [d, c]
        db1[...] += dh.sum(1, keepdims=True)
        dh = dh.astype(BF16)
        dw1[...] += dot(dh, y, (1, 1))  # [d, s]
        dy = dot(w1[...], dh, (0, 0))  # [s, c]
        dscale[...] += (dy * centred).sum(0, keepdims=True)
        dbias[...] += dy.sum(0, keepdims=True)
        dy *= scale[...]
        along = centred * (dy * centred).mean(-1, keepdims=True)
        return dout + over_std * (dy - dy.mean(-1, keepdims=True) - along)

    @pair_loop
    def _(pair: jax.Array) -> None:
        store(dx_words, pair, *map(back, load(x_words, pair), load(dout_words, pair)))

    collect(dx_words, dx_ref)


def norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
    """x [s, c] with mean 0 and variance 1, what it was multiplied by, and LayerNorm's result."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum(0, (x * x).mean(-1, keepdims=True) - mean * mean)
    over_std = jax.lax.rsqrt(variance + 1e-6)
    centred = (x - mean) * over_std
    return centred, over_std, centred * scale + bias


def dot(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Product that sums over an axis of each, in float32."""
    return jax.lax.dot_general(
        a, b, (((axes[0],), (axes[1],)), ((), ())), preferred_element_type=F32
    )


def pair_loop(body: Any) -> None:
    jax.lax.fori_loop(I32(0), I32(GROUP // 2), lambda i, _: (body(i), _)[1], I32(0))


def spread(refs: Any, words: Any) -> None:
    """Blocks bfloat16 [s, GROUP, 128] to words [c / 128, s * GROUP / 2, 128]."""
    for k, ref in enumerate(refs):
        words[k] = pltpu.bitcast(ref[...].reshape(-1, LANES), I32)


def collect(words: Any, ref: Any) -> None:
    """The way back, to a block [s, GROUP, c]."""
    s = ref.shape[0]
    for k in range(words.shape[0]):
        block = pltpu.bitcast(words[k], BF16).reshape(s, GROUP, LANES)
        ref[:, :, k * LANES : (k + 1) * LANES] = block


def load(words: Any, pair: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two images float32 [s, c]."""
    rows = pl.ds(pair, words.shape[1] // (GROUP // 2), stride=GROUP // 2)
    both = jnp.concatenate([words.at[k][rows, :] for k in range(words.shape[0])], 1)
    upper = both & I32(-65536)
    return tuple(jax.lax.bitcast_convert_type(bits, F32) for bits in (both << 16, upper))


def store(words: Any, pair: jax.Array, first: jax.Array, second: jax.Array) -> None:
    def bits(x: jax.Array) -> jax.Array:
        return jax.lax.bitcast_convert_type(x.astype(BF16).astype(F32), I32)

    both = jax.lax.shift_right_logical(bits(first), I32(16)) | bits(second)
    rows = pl.ds(pair, words.shape[1] // (GROUP // 2), stride=GROUP // 2)
    for k in range(words.shape[0]):
        words.at[k][rows, :] = both[:, k * LANES : (k + 1) * LANES]


def call(kernel: Any, streams: list[jax.Array], weights: list[jax.Array], **options: Any) -> Any:
    """Runs a kernel over groups of images: activations [s, n, c], and gradients of the weights."""
    s, n, c = streams[0].shape
    blocks = [
        pl.BlockSpec((s, GROUP, LANES), functools.partial(lambda k, i: (0, i, k), k))
        for k in range(c // LANES)
    ]
    whole = [pl.BlockSpec(w.shape, lambda i: (0, 0)) for w in weights]
    gradients = weights if kernel is backward_kernel else []
    return pl.pallas_call(
        kernel,
        grid=(n // GROUP,),
        in_specs=blocks * len(streams) + whole,
        out_specs=[pl.BlockSpec((s, GROUP, c), lambda i: (0, i, 0)), *whole[: len(gradients)]],
        out_shape=[
            jax.ShapeDtypeStruct((s, n, c), BF16),
            *(jax.ShapeDtypeStruct(w.shape, F32) for w in gradients),
        ],
        scratch_shapes=[pltpu.VMEM((c // LANES, s * GROUP // 2, LANES), I32)] * (len(streams) + 1),
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=100 << 20),
        **options,
    )(*(stream for stream in streams for _ in blocks), *weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def mix_tokens(x: jax.Array, weights: list[jax.Array], interpret: bool) -> jax.Array:
    """x + token_mixing(LayerNorm_0(x)) of x bfloat16 [n, s, c].

    Weights: scale [c], bias [c], w1 [s, d], b1 [d], w2 [d, s], b2 [s].
    """
    return _forward(x, weights, interpret)[0]


def _forward(x: jax.Array, weights: list[jax.Array], interpret: bool) -> tuple[jax.Array, Any]:
    (out,) = call(forward_kernel, [x.swapaxes(0, 1)], _for_kernel(weights), interpret=interpret)
    return out.swapaxes(0, 1), (x, weights)


def _backward(interpret: bool, saved: Any, dout: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    x, weights = saved
    streams = [x.swapaxes(0, 1), dout.swapaxes(0, 1)]
    dx, ds, db, *grads = call(backward_kernel, streams, _for_kernel(weights), interpret=interpret)
    dw1, db1, dw2, db2 = grads
    return dx.swapaxes(0, 1), [ds[0], db[0], dw1.T, db1[:, 0], dw2.T, db2[:, 0]]


def _for_kernel(weights: list[jax.Array]) -> list[jax.Array]:
    scale, bias, w1, b1, w2, b2 = weights
    products = w1.T.astype(BF16), w2.T.astype(BF16)
    return [scale[None], bias[None], products[0], b1[:, None], products[1], b2[:, None]]


mix_tokens.defvjp(_forward, _backward)


class FusedBlock(mixer.MixerBlock):
    """A MixerBlock with the kernels, without dropout and stochastic depth; the same parameters."""

    interpret: bool = False

    @nn.jit
    @nn.compact
    def __call__(
        self, x: jax.Array, rows: Any = None, drop_path: Any = None, drop_scale: Any = None
    ) -> jax.Array:
        s, c = x.shape[1:]
        norm = Weights({"scale": (c,), "bias": (c,)}, name="LayerNorm_0")()
        mlp = TokenWeights(s, self.tokens_mlp_dim, name="token_mixing")()
        x = mix_tokens(x, norm + mlp, self.interpret)
        y = layers.LayerNorm(dtype=self.dtype, name="LayerNorm_1")(x)
        widths = (self.channels_mlp_dim, 0.0, self.dtype, self.gelu)
        return x + mixer.MlpBlock(*widths, name="channel_mixing")(y)


class Weights(nn.Module):
    """Parameters of given names and shapes."""

    shapes: Any

    @nn.compact
    def __call__(self) -> list[jax.Array]:
        return [self.param(name, nn.initializers.zeros, s) for name, s in self.shapes.items()]


class TokenWeights(nn.Module):
    """Those of the token-mixing MLP."""

    tokens: int
    width: int

    @nn.compact
    def __call__(self) -> list[jax.Array]:
        s, d = self.tokens, self.width
        first = Weights({"kernel": (s, d), "bias": (d,)}, name="Dense_0")()
        return first + Weights({"kernel": (d, s), "bias": (s,)}, name="Dense_1")()


def check_kernel() -> None:
    """Compares a block with and without kernels to one in float32: values and all gradients."""
    x, dout = jax.random.normal(jax.random.key(0), (2, GROUP, 9, LANES)).astype(BF16)
    make = functools.partial(mixer.MixerBlock, 16, 64)
    params = make().init(jax.random.key(1), x)["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [w + 0.1 * jax.random.normal(k, w.shape) for k, w in zip(keys, leaves, strict=True)]
    params = jax.tree.unflatten(tree, noisy)

    def run(block: Any, dtype: Any) -> list[jax.Array]:
        out, back = jax.vjp(lambda p, x: block.apply({"params": p}, x), params, x.astype(dtype))
        return jax.tree.leaves((out, back(dout.astype(dtype))))

    truth = run(make(), F32)
    plain = run(make(dtype=BF16), BF16)
    fused = run(FusedBlock(16, 64, dtype=BF16, interpret=True), BF16)
    worst = 0.0
    for exact, usual, ours in zip(truth, plain, fused, strict=True):
        error = jnp.abs(ours.astype(F32) - exact).max() / jnp.abs(usual.astype(F32) - exact).max()
        worst = max(worst, float(error))
    print(f"kernel in interpret mode: at most {worst:.2f} times the error of the model in bfloat16")
    if worst > 2:
        raise ValueError("the kernel computes something else")


if __name__ == "__main__":
    main()
