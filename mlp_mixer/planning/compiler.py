"""Programs compiled for TPUs that are not here, and what the compiler says of them.

libtpu holds the compiler of real TPUs and needs none to compile. It can crash, and it locks the
machine's TPU by default, so it runs in a process of its own (`isolated`) that takes no lock.
"""

import concurrent.futures
import importlib.util
import math
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.experimental import topologies
from jax.extend.core import ClosedJaxpr, Jaxpr

from mlp_mixer.planning import hlo
from mlp_mixer.planning.chips import Topology, parse_topology

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else the first process locks all others out
    # No questions to a metadata server and no search for hosts. The type is any valid one; it does
    # not restrict the topologies.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclass(frozen=True)
class Program:
    """A compiled program; bytes and cycles are those of one device and one step.

    Attributes:
        fits: whether the compiler could place it in the device's memory. If not, all that follows
            is empty but `memory`, which then has one entry.
        memory: bytes, by what takes them.
        cycles: the compiler's estimate. Communication and copies in the background have none.
        hbm_bytes: read and written by the operations, in and out of the device's main memory.
        collectives: by kind and number of devices that take part.
        flops: arithmetic operations that the model needs for one step, whoever computes them.
    """

    fits: bool
    memory: dict[str, float]
    cycles: float = 0.0
    hbm_bytes: float = 0.0
    collectives: tuple[hlo.Collective, ...] = ()
    flops: float = 0.0


def isolated(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args) in a new process in which libtpu may be loaded.

    Raises:
        ValueError: libtpu is not installed, or the process died; has the last words of it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "libtpu is not installed; it compiles for TPUs on any Linux x86-64 machine: "
            "pip install libtpu"
        )
    with tempfile.NamedTemporaryFile("w+", errors="replace") as stderr:
        spawn = multiprocessing.get_context("spawn")
        pool = concurrent.futures.ProcessPoolExecutor(
            1, mp_context=spawn, initializer=_in_child, initargs=(stderr.name,)
        )
        with pool:
            try:
                return pool.submit(function, *args).result()
            except concurrent.futures.process.BrokenProcessPool:
                raise ValueError(_last_words(stderr.read())) from None


def compile_program(
    lowered: Any,
    parts: dict[str, float],
    flops: float,
    options: Mapping[str, str] | None = None,
) -> Program:
    """Compiles what `jax.jit(f).lower(...)` gave for devices of a topology.

    Args:
        lowered: the traced program.
        parts: bytes of a device's arguments, by what they are.
        flops: see `Program`.
        options: of the compiler, such as xla_tpu_dot_dot_fusion.

    Raises:
        ValueError: the compiler refused for another reason than memory.
    """
    try:
        compiled = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not (needed := hlo.memory_needed(str(error))):
            raise ValueError(f"libtpu's compiler: {str(error)[:500]}") from None
        return Program(False, {"needed": needed})
    memory = compiled.memory_analysis()
    arguments = memory.argument_size_in_bytes
    parts = parts | {
        "padding": max(0.0, arguments - sum(parts.values())),
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "activations": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    module = hlo.parse(compiled.as_text())
    return Program(True, parts, module.cycles, module.hbm_bytes, tuple(module.collectives), flops)


def devices_of(topology: Topology) -> list[jax.Device]:
    """The devices of a topology, which can be compiled for.

    Raises:
        ValueError: libtpu does not know the topology, or cannot be loaded.
    """
    options = {"chip_config_name": "megacore"} if topology.kind == "v4" else {}
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:  # libtpu raises kinds of its own
        message = f"libtpu does not give the topology {topology.name}: {str(error)[:300]}"
        if "lockfile" in message:
            message += "; another process holds libtpu's lock, start that with " + (
                "ALLOW_MULTIPLE_LIBTPU_LOAD=1, or end it"
            )
        raise ValueError(message) from None
    return list(devices)


def train_program(
    config: ml_collections.ConfigDict, num_classes: int, num_examples: int, topology: str
) -> tuple[Program, int]:
    """The training step of a config, and how many of them its run has.

    Arguments and errors are those of `training.recipe.make_recipe`.
    """
    from mlp_mixer.training import layouts
    from mlp_mixer.training.recipe import make_recipe, random_params

    recipe = make_recipe(config, num_classes, num_examples, devices_of(parse_topology(topology)))
    layout = recipe.layout
    params = jax.eval_shape(lambda: random_params(config, recipe.module))
    state = jax.eval_shape(recipe.new_state, params)
    rows: tuple[int, ...] = (config.batch_size,)
    if isinstance(layout, layouts.Pmap):  # its arrays have an axis of devices
        rows = (layout.mesh.size, config.batch_size // layout.mesh.size)
    batch = {
        "image": jax.ShapeDtypeStruct((*rows, *images_of(recipe.module, 1).shape[1:]), jnp.uint8),
        "label": jax.ShapeDtypeStruct(rows, jnp.int32),
    }
    lowered = layout.jit_step(recipe.step, state).lower(state, batch)
    parts = {
        "parameters": bytes_of(state.params, layout.shardings(state.params)),
        "optimizer": bytes_of(state.opt_state, layout.shardings(state.opt_state)),
        "batch": bytes_of(batch) / layout.mesh.size,
    }
    # Backward is twice the forward pass, and a multiplication and an addition are two operations.
    flops = 3 * 2 * macs(recipe.module) * config.batch_size / layout.mesh.size
    return compile_program(lowered, parts, flops), recipe.total_steps


def eval_program(
    config: ml_collections.ConfigDict, num_classes: int, num_examples: int, topology: str
) -> tuple[Program, int]:
    """The forward pass of a config's model on a device's share of a batch, and 1."""
    from mlp_mixer.training.recipe import make_model

    del num_examples
    devices = parse_topology(topology).devices
    if config.batch_size % devices:
        raise ValueError(f"batch_size={config.batch_size} does not divide by {devices} devices")
    module = make_model(config, num_classes, "tpu")
    return forward_program(module, config.batch_size // devices, topology), 1


def forward_program(
    module: Any, batch_size: int, topology: str, options: Mapping[str, str] | None = None
) -> Program:
    """The forward pass of a Flax module on images uint8 [batch_size, h, w, c], on one device."""
    from mlp_mixer.models.pixels import normalise

    device = jax.sharding.SingleDeviceSharding(devices_of(parse_topology(topology))[0])
    params = jax.eval_shape(module.init, jax.random.key(0), images_of(module, 1))["params"]
    images = jax.ShapeDtypeStruct((batch_size, *images_of(module, 1).shape[1:]), jnp.uint8)

    def forward(params: Any, images: jax.Array) -> jax.Array:
        return module.apply({"params": params}, normalise(images))

    lowered = jax.jit(forward, in_shardings=device, out_shardings=device).lower(params, images)
    parts = {"parameters": bytes_of(params), "batch": bytes_of(images)}
    return compile_program(lowered, parts, 2 * macs(module) * batch_size, options)


def images_of(module: Any, count: int) -> jax.ShapeDtypeStruct:
    """The shape of a module's input."""
    shape = (count, *module.image_size, module.image_channels)
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def macs(module: Any) -> int:
    """Multiplications (each with an addition) of a module's forward pass on one image."""

    def forward(image):
        return module.init_with_output(jax.random.key(0), image)[0]

    return _macs(jax.make_jaxpr(forward)(images_of(module, 1)))


def _macs(jaxpr: Any) -> int:
    """Of matrix multiplications and convolutions; all else is small beside them."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            if inner > 1:  # a product of columns with rows of 1 adds a bias
                total += math.prod(equation.outvars[0].aval.shape) * inner
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            per_output = math.prod(kernel) // outputs
            total += math.prod(equation.outvars[0].aval.shape) * per_output
        else:
            leaves = jax.tree.leaves(equation.params)
            inner_macs = [_macs(leaf) for leaf in leaves if isinstance(leaf, Jaxpr | ClosedJaxpr)]
            # The branches of a cond are forms of the same for several platforms.
            total += max(inner_macs) if equation.primitive.name == "cond" else sum(inner_macs)
    return total


def bytes_of(tree: Any, shardings: Any = None) -> float:
    """Bytes of a tree of shapes, on one device of the shardings."""

    def size(x: Any, sharding: Any = None) -> int:
        shape = sharding.shard_shape(x.shape) if sharding else x.shape
        return math.prod(shape) * x.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(size, tree, *[shardings] if shardings else [])))


def _in_child(stderr: str) -> None:
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")  # jax may have been imported before
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND), sys.stderr.fileno())


def _last_words(stderr: str) -> str:
    """Why a process died, in one line."""
    fatal = r"^(?:F\d{4}\b.*?\] |(?=.*Check fail)|\*\*\* (?=SIG))(.*?)(?: \(@0x.*)?$"
    lines = [line for line in stderr.splitlines() if line.strip()]
    reason = (lines or ["it left no message; there may be too little memory"])[-1]
    if found := re.search(fatal, stderr, re.MULTILINE):
        reason = found[1]
    return (
        f"libtpu's compiler died: {reason.strip()[:300]}. Where libtpu does not fit jax "
        f"{jax.__version__}, pip install 'jax[tpu]' brings the one that does"
    )
