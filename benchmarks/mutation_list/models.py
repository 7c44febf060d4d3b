"""Models: layers, dropout, BiT, ViT, permuted pixels."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
    Mutation(
        "dropout does not divide by the share that is kept",
        "mlp_mixer/models/dropout.py", "x / (1 - rate)", "x",
        "tests/models/test_dropout.py tests/models/test_mixer.py",
    ),
    Mutation(
        "no dropout after an MLP's second Dense",
        "mlp_mixer/models/mixer.py",
        "return dropout(Dense(x.shape[-1], dtype=self.dtype)(y), rows, drop_scale)",
        "return Dense(x.shape[-1], dtype=self.dtype)(y)",
        "tests/models/test_dropout.py tests/models/test_mixer.py",
    ),
    Mutation(
        "stochastic depth drops with the same probability in all blocks",
        "mlp_mixer/models/mixer.py", "np.linspace(0.0, self.stoch_depth,",
        "np.linspace(self.stoch_depth, self.stoch_depth,",
        "tests/models/test_mixer.py",
    ),
    Mutation(
        "the gradient of a bias is summed in the number type of the input",
        "mlp_mixer/models/layers.py", "rows_of(bias, like).astype(like.dtype)",
        "rows_of(bias.astype(like.dtype), like)",
        "tests/models/test_layers.py",
    ),
    Mutation(
        "a TPU's sum for a bias gets its ones from the forward pass",
        "mlp_mixer/models/layers.py",
        "@partial(jax.checkpoint, static_argnums=1, prevent_cse=False)\n", "",
        "tests/models/test_layers.py",
    ),
    Mutation(
        "the GELU is computed in the number type of its input",
        "mlp_mixer/models/gelu.py",
        "    return form(x.astype(jnp.float32)).astype(x.dtype)\n\n\n@_in_float32",
        "    return form(x)\n\n\n@_in_float32",
        "tests/models/test_gelu.py tests/models/test_layers.py",
    ),
    Mutation(
        "the GELU's cubic term is off by a thousandth",
        "mlp_mixer/models/gelu.py", "0.044715", "0.0448",
        "tests/models/test_gelu.py",
    ),
    Mutation(
        "LayerNorm's statistics are computed in the number type of the block",
        "mlp_mixer/models/layers.py", "x = x.astype(jnp.float32)\n", "x = x.astype(dtype)\n",
        "tests/models/test_layers.py",
    ),
    Mutation(
        "LayerNorm's epsilon is PyTorch's",
        "mlp_mixer/models/layers.py", "1e-6", "1e-5",
        "tests/models/test_layers.py",
    ),
    Mutation(
        "token mixing without its skip connection",
        "mlp_mixer/models/mixer.py", "x = x + self._maybe_drop(y, rows, drop_path)",
        "x = self._maybe_drop(y, rows, drop_path)",
        "tests/models/test_mixer.py",
    ),
    Mutation(
        "the head starts at random",
        "mlp_mixer/models/init.py", 'if last == "kernel" and name != "head/kernel":',
        'if last == "kernel":',
        "tests/models/test_init.py tests/models/test_mixer.py",
    ),
    Mutation(
        "a row drops what its place among the device's rows says, whatever the batch",
        "mlp_mixer/models/dropout.py", "jax.random.fold_in(key, row)", "key",
        "tests/models/test_dropout.py tests/models/test_mixer.py",
    ),
    Mutation(
        "BiT's kernels are standardised over the outputs, too",
        "mlp_mixer/models/bit.py", "axis=(0, 1, 2)", "axis=(0, 1, 2, 3)",
        "tests/models/test_vit_and_bit.py",
    ),
    Mutation(
        "BiT pads max pooling with the smallest number",
        "mlp_mixer/models/bit.py", "x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))",
        "x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)",
        "tests/models/test_vit_and_bit.py",
    ),
    Mutation(
        "ViT's features are those of the first patch",
        "mlp_mixer/models/vit.py", '"pre_logits": x[:, 0]', '"pre_logits": x[:, 1]',
        "tests/models/test_vit_and_bit.py",
    ),
    Mutation(
        "the pixels inside the patches are not permuted",
        "mlp_mixer/models/permuted.py", "[patches][:, inside]", "[patches]",
        "tests/analysis/test_permutation.py",
    ),
    Mutation(
        "a transpose in bfloat16 is a part of a product, which is slow on CPUs",
        "mlp_mixer/models/product.py", "_times(_transposed(x), y)",
        "_times(x.T, y)", "tests/models/test_product.py",
    ),
    Mutation(
        "a CPU evaluates a batch as a whole",
        "mlp_mixer/models/parts.py", "return best_parts(module, rows, device.platform)", "return 1",
        "tests/evaluation/test_classification.py",
    ),
    Mutation(
        "the plan of an evaluation is of all devices' images on one",
        "mlp_mixer/planning/compiler.py", "(module, config.batch_size // len(devices), topology)",
        "(module, config.batch_size, topology)", "tests/planning/test_plan.py -k evaluation",
    ),
    Mutation(
        "a batch is cut into parts as if one device had all of it",
        "mlp_mixer/evaluation/compute.py", "len(images) // mesh.size", "len(images)",
        "tests/evaluation/test_classification.py",
    ),
    Mutation(
        "a product in bfloat16 has the slow form",
        "mlp_mixer/models/product.py", "contracted, preferred_element_type=jnp.float32)",
        "contracted)", "tests/models/test_product.py",
    ),
    Mutation(
        "the gradient of a layer's input transposes the kernel in memory",
        "mlp_mixer/models/product.py", "_times(gradient, kernel, not by_rows)",
        "_times(gradient, _transposed(kernel), by_rows)", "tests/models/test_product.py",
    ),
    Mutation(
        "the wider factor of a kernel's gradient is transposed",
        "mlp_mixer/models/product.py", "if x.shape[1] > y.shape[1]", "if x.shape[1] < y.shape[1]",
        "tests/models/test_product.py",
    ),
    Mutation(
        "a T4 computes in bfloat16",
        "mlp_mixer/runtime/devices.py", "int(major) >= 8", "int(major) >= 7",
        "tests/runtime/test_devices.py",
    ),
    Mutation(
        "a CPU without instructions for bfloat16 computes in it",
        "mlp_mixer/runtime/devices.py",
        "not limited and not BFLOAT16_INSTRUCTIONS.isdisjoint(cpu_flags())", "not limited",
        "tests/runtime/test_devices.py",
    ),
)  # fmt: skip
