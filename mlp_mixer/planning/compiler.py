"""Compiles programs for TPUs that are not here, and reports what the compiler says about them.

libtpu contains the compiler for TPUs and needs no TPU to compile. It can crash, and it locks the
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
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.experimental import topologies
from jax.extend.core import ClosedJaxpr, Jaxpr

from mlp_mixer.analysis import arithmetic
from mlp_mixer.models.mixer import rounded
from mlp_mixer.models.parts import forward_parts
from mlp_mixer.models.pixels import forward
from mlp_mixer.planning import hlo
from mlp_mixer.planning.chips import Topology, parse_topology

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else the first process locks all others out
    # Do not ask a metadata server or look for other hosts. Any valid type will do: it does not
    # restrict the topologies.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclass(frozen=True)
class Program:
    """A compiled program; bytes and cycles are those of one device and one step.

    Attributes:
        fits: whether it fits into the device's memory. If not, all other fields are empty, except
            for `memory`, which then has one entry.
        memory: bytes by use, such as "parameters".
        cycles: the compiler's estimate. Communication and copies in the background have none.
        hbm_bytes: bytes that the operations read from and write to the device's main memory.
        collectives: by kind and number of devices that take part.
        flops: arithmetic operations that the model needs for one step; what the compiler or
            rematerialisation adds is not counted.
    """

    fits: bool
    memory: dict[str, float]
    cycles: float = 0.0
    hbm_bytes: float = 0.0
    collectives: tuple[hlo.Collective, ...] = ()
    flops: float = 0.0


def isolated(function: Callable[..., Any], *args: Any) -> Any:
    """Returns function(*args), called in a new process in which libtpu may be loaded.

    Raises:
        ValueError: libtpu is not installed, or the process died; quotes its last message.
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
    """Compiles what `jax.jit(f).lower(...)` returned for devices of a topology.

    Args:
        lowered: the traced program.
        parts: bytes of one device's arguments, by what they are.
        flops: see `Program`.
        options: compiler options, such as xla_tpu_dot_dot_fusion.

    Raises:
        ValueError: the compiler failed for another reason than memory.
    """
    try:
        compiled = lowered.compile(options)
        text = compiled.as_text()
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
    module = hlo.parse(text)
    return Program(True, parts, module.cycles, module.hbm_bytes, tuple(module.collectives), flops)


def devices_of(topology: Topology) -> list[jax.Device]:
    """Returns the devices of a topology, for which programs can be compiled.

    Raises:
        ValueError: libtpu does not know the topology, or cannot be loaded.
    """
    options = {"chip_config_name": "megacore"} if topology.kind == "v4" else {}
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **options
        ).devices
    except Exception as error:  # libtpu raises types of its own
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
    """Compiles the training step of a config; also returns the number of steps of its run.

    Arguments and errors are those of `training.recipe.make_recipe`.
    """
    from mlp_mixer.models.init import init
    from mlp_mixer.training import layouts
    from mlp_mixer.training.recipe import make_recipe, random_params
    from mlp_mixer.training.teacher import module_of

    devices = devices_of(parse_topology(topology))
    teachers = [module_of(config.teacher)] if config.teacher else []
    recipe = make_recipe(config, num_classes, num_examples, devices, *teachers)
    layout = recipe.layout
    params = jax.eval_shape(lambda: random_params(config, recipe.module))
    state = jax.eval_shape(recipe.new_state, params)
    rows: tuple[int, ...] = (config.batch_size,)
    if isinstance(layout, layouts.Pmap):  # whose arrays have a leading axis of devices
        rows = (layout.mesh.size, config.batch_size // layout.mesh.size)
    batch = {
        "image": jax.ShapeDtypeStruct((*rows, *images_of(recipe.module, 1).shape[1:]), jnp.uint8),
        "label": jax.ShapeDtypeStruct(rows, jnp.int32),
    }
    teacher = [jax.eval_shape(lambda each=each: init(each)) for each in teachers]
    lowered = layout.jit_step(recipe.step, state, *teacher).lower(state, batch, *teacher)
    parts = {
        "parameters": bytes_of(state.params, layout.shardings(state.params)),
        "optimizer": bytes_of(state.opt_state, layout.shardings(state.opt_state)),
        "batch": bytes_of(batch) / layout.mesh.size,
    }
    if teacher:
        parts["teacher"] = bytes_of(teacher, layout.shardings(teacher))
    needed = arithmetic.of_training(config, macs(recipe.module), sum(map(macs, teachers)))
    flops = 2 * needed * config.batch_size / layout.mesh.size  # two in a multiply-add
    return compile_program(lowered, parts, flops), recipe.total_steps


def eval_program(
    config: ml_collections.ConfigDict, num_classes: int, num_examples: int, topology: str
) -> tuple[Program, int]:
    """Compiles the forward pass of a config's model on a device's share of a batch; returns also 1.

    Raises:
        ValueError: the batch does not divide by the devices, or as for `devices_of`.
    """
    from mlp_mixer.training.recipe import make_model

    del num_examples
    devices = devices_of(parse_topology(topology))
    if config.batch_size % len(devices):
        raise ValueError(
            f"batch_size={config.batch_size} must be a multiple of the {len(devices)} devices of "
            f"{topology}"
        )
    module = make_model(config, num_classes, devices[0])
    return forward_program(module, config.batch_size // len(devices), topology), 1


def forward_program(
    module: Any, batch_size: int, topology: str, options: Mapping[str, str] | None = None
) -> Program:
    """Compiles a module's forward pass on images uint8 [batch_size, h, w, c], on one device.

    As in an evaluation, parameters are rounded beforehand, and images are computed in parts where
    that helps.
    """
    device = devices_of(parse_topology(topology))[0]
    lies = jax.sharding.SingleDeviceSharding(device)
    variables = jax.eval_shape(module.init, jax.random.key(0), images_of(module, 1))
    params = jax.eval_shape(partial(rounded, module), variables["params"])
    images = jax.ShapeDtypeStruct((batch_size, *images_of(module, 1).shape[1:]), jnp.uint8)

    in_parts = partial(forward, module, parts=forward_parts(module, batch_size, device))
    jitted = jax.jit(in_parts, in_shardings=lies, out_shardings=lies)
    lowered = jitted.lower(params, images)
    parts = {"parameters": bytes_of(params), "batch": bytes_of(images)}
    return compile_program(lowered, parts, 2 * macs(module) * batch_size, options)


def images_of(module: Any, count: int) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of a module's input, float32 [count, h, w, c]."""
    shape = (count, *module.image_size, module.image_channels)
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def macs(module: Any) -> int:
    """Counts the multiply-adds of a module's forward pass on one image."""

    def forward(image):
        return module.init_with_output(jax.random.key(0), image)[0]

    return _macs(jax.make_jaxpr(forward)(images_of(module, 1)))


def _macs(jaxpr: Any) -> int:
    """Counts those of matrix multiplications and convolutions; all else is small beside them."""
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
    """Returns the bytes that a tree of shapes takes on one device, whole or by its shardings."""

    def size(x: Any, sharding: Any = None) -> int:
        shape = sharding.shard_shape(x.shape) if sharding else x.shape
        return math.prod(shape) * x.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(size, tree, *[shardings] if shardings else [])))


def _in_child(stderr: str) -> None:
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")  # jax may have been imported before
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND), sys.stderr.fileno())


def _last_words(stderr: str) -> str:
    """Says in one line why a process died."""
    fatal = r"^(?:F\d{4}\b.*?\] |(?=.*Check fail)|\*\*\* (?=SIG))(.*?)(?: \(@0x.*)?$"
    lines = [line for line in stderr.splitlines() if line.strip()]
    silent = (
        "it left no message; there may be too little memory, or the script that called this needs "
        "`if __name__ == '__main__':`, as a new process reads it again"
    )
    reason = (lines or [silent])[-1]
    if found := re.search(fatal, stderr, re.MULTILINE):
        reason = found[1]
    return (
        f"libtpu's compiler died: {reason.strip()[:300]}. Where libtpu does not fit jax "
        f"{jax.__version__}, pip install 'jax[tpu]' brings the one that does"
    )
