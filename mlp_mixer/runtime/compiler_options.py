"""Options with which XLA compiles a training step, by kind of device."""

import logging
import os
import re
from typing import Any

import jax
from jax.sharding import Mesh, SingleDeviceSharding

log = logging.getLogger(__name__)

# With these, sums of gradients over devices run inside the products of the backward pass, where it
# is not a loop. By default a few large sums run by themselves after it. The compiler refuses these
# options for any TPU but a v5e (docs/lab/tpu_compiler.md).
OVERLAPPED_SUMS = {
    "xla_enable_async_all_reduce": "true",
    "xla_tpu_overlap_compute_collective_tc": "true",
    "xla_tpu_enable_async_collective_fusion": "true",
    "xla_tpu_enable_async_collective_fusion_multiple_steps": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
    "xla_jf_crs_combiner_threshold_in_bytes": "4194304",  # combines small sums only
}
OPTIONS: dict[str, dict[str, Any]] = {
    # A v5e has 128 MiB of on-chip memory, of which its compiler gives 16 to a single operation;
    # with 40, tiles are larger and a step takes 2 % fewer cycles (docs/lab/tpu_compiler.md).
    "TPU v5 lite": {"xla_tpu_scoped_vmem_limit_kib": "40960", **OVERLAPPED_SUMS},
    # On Hopper GPUs, using cuBLAS for every matrix product is 3 % faster than letting XLA choose
    # between cuBLAS and Triton, and compiles in half the time (docs/lab/speed.md).
    "NVIDIA H100 80GB HBM3": {"xla_gpu_enable_triton_gemm": False},
    "NVIDIA H200": {"xla_gpu_enable_triton_gemm": False},
}


def options_for(mesh: Mesh) -> dict[str, Any]:
    """Returns the options for a mesh's kind of device, without those that its compiler lacks.

    The names belong to a version of XLA, and a run must not fail because one of them is gone: a
    tiny program is compiled to find out, and a warning tells which. What the environment variables
    LIBTPU_INIT_ARGS and XLA_FLAGS set is left as it is there.
    """
    device = mesh.local_devices[0]
    flags = " ".join(os.environ.get(name, "") for name in ("LIBTPU_INIT_ARGS", "XLA_FLAGS"))
    unwanted = {flag.lstrip("-").partition("=")[0] for flag in flags.split()}
    if mesh.size == 1:
        unwanted |= OVERLAPPED_SUMS.keys()
    options = OPTIONS.get(device.device_kind, {})
    options = {name: value for name, value in options.items() if name not in unwanted}
    lies = SingleDeviceSharding(device)
    while options:
        tiny = jax.jit(lambda x: x + 1, in_shardings=lies, out_shardings=lies)
        try:
            tiny.lower(jax.ShapeDtypeStruct((), "float32")).compile(options)
            break
        except jax.errors.JaxRuntimeError as error:
            unknown = re.search(r"No such compile option: '(\w+)'", str(error))
            if not unknown:
                raise
            log.warning(
                "the compiler for %s does not know the option %s, which would make steps faster; "
                "training goes on without it",
                device.device_kind,
                unknown[1],
            )
            options = {name: value for name, value in options.items() if name != unknown[1]}
    return options
