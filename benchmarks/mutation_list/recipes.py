"""What is trained and how: the config's fields, losses, optimizers, the step, layouts."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
    Mutation(
        "softmax learns images of several labels",
        "mlp_mixer/training/recipe.py", "np.flatnonzero(counts != 1)", "np.flatnonzero(counts < 0)",
        "tests/training/test_recipe.py -k exactly_one",
    ),
    Mutation(
        "of several labels only the first is correct",
        "mlp_mixer/models/losses.py", "    if labels.ndim == 1:\n", "    if True:\n",
        "tests/training/test_recipe.py -k several_labels",
    ),
    Mutation(
        "an evaluator writes over the training's scalars",
        "mlp_mixer/training/fields.py", 'if name == "train":', 'if name == "":',
        "tests/training/test_fields.py -k other_scalars",
    ),
    Mutation(
        "sigmoid is trained as softmax",
        "mlp_mixer/training/recipe.py", "loss=config.loss,", 'loss="softmax",',
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "no label smoothing",
        "mlp_mixer/training/recipe.py", "label_smoothing=config.label_smoothing",
        "label_smoothing=0 * config.label_smoothing", "tests/training/test_independent_step.py",
    ),
    Mutation(
        "no mixup",
        "mlp_mixer/training/recipe.py", "            config.mixup, config",
        "            0 * config.mixup, config",
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "mixup for each example where it is to be for the batch",
        "mlp_mixer/training/recipe.py", "config.mixup_per_example,",
        "not config.mixup_per_example,", "tests/training/test_independent_step.py",
    ),
    Mutation(
        "the decay ends at zero",
        "mlp_mixer/training/recipe.py", "warmup, config.decay_end)", "warmup)",
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "no clipping",
        "mlp_mixer/training/recipe.py", "grad_clip=config.grad_clip,", "grad_clip=0.0,",
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "randomness is that of seed 0",
        "mlp_mixer/training/recipe.py", "        seed=config.seed,\n    )", "    )",
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "the other image of a mixed pair is labelled without smoothing",
        "mlp_mixer/training/step.py",
        'losses.targets(rows["partner_label"], model.num_classes, label_smoothing)',
        'losses.targets(rows["partner_label"], model.num_classes, 0)',
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "dtype is ignored",
        "mlp_mixer/training/recipe.py", "dtype=compute_dtype(config.dtype,",
        'dtype=compute_dtype("float32",',
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "remat is ignored",
        "mlp_mixer/training/recipe.py", "module.clone(remat=config.remat)", "module",
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "remat is accepted where it does nothing",
        "mlp_mixer/training/recipe.py", "    elif config.remat:\n", "    elif False:\n",
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "sum_dtype is ignored",
        "mlp_mixer/training/recipe.py", "(config.layout, config.sum_dtype, devices)",
        '(config.layout, "float32", devices)',
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "a batch of a prime number of rows is cut into single images",
        "mlp_mixer/models/parts.py", "range(fewest, 4 * fewest)", "range(fewest, rows + 1)",
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "parts are chosen too large",
        "mlp_mixer/models/parts.py", "fewest = -(-rows // max(1, most))",
        "fewest = rows // max(1, most) or 1",
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "accum_steps is ignored",
        "mlp_mixer/training/recipe.py", "        accum_steps=accum_steps,\n", "",
        "tests/training/test_recipe.py",
    ),
    Mutation(
        "the sigmoid loss is a mean over classes",
        "mlp_mixer/models/losses.py", "(logits, targets).sum(-1)", "(logits, targets).mean(-1)",
        "tests/training/test_parts.py -k losses",
    ),
    Mutation(
        "label smoothing takes the share away and gives it to nobody",
        "mlp_mixer/models/losses.py", " + smoothing / num_classes", "",
        "tests/training/test_parts.py -k smoothing",
    ),
    Mutation(
        "the larger share of a mixed pair goes to the other image",
        "mlp_mixer/training/mixup.py", "jnp.maximum(share, 1 - share)",
        "jnp.minimum(share, 1 - share)",
        "tests/training/test_mixup.py",
    ),
    Mutation(
        "the partner of the first row is the device's own last one",
        "mlp_mixer/training/mixup.py", "(i, (i + 1) % count)", "(i, i)",
        "tests/training/test_mixup.py",
    ),
    Mutation(
        "weight decay on biases and scales, too",
        "mlp_mixer/training/optimizer.py", 'path[-1].key == "kernel", params)', "True, params)",
        "tests/training/test_parts.py -k decay",
    ),
    Mutation(
        "weight decay is not multiplied by the rate",
        "mlp_mixer/training/optimizer.py",
        "        optax.add_decayed_weights(config.weight_decay, mask=kernels),\n"
        "        optax.scale_by_learning_rate(schedule),\n",
        "        optax.scale_by_learning_rate(schedule),\n"
        "        optax.add_decayed_weights(-config.weight_decay, mask=kernels),\n",
        "tests/training/test_parts.py -k decay",
    ),
    Mutation(
        "Adam forgets squares ten times as fast",
        "mlp_mixer/training/optimizer.py", "b2=0.999),", "b2=0.99),",
        "tests/training/test_parts.py -k optimizers",
    ),
    Mutation(
        "the warm-up begins a step later",
        "mlp_mixer/training/optimizer.py", "jnp.float32(step) / warmup_steps",
        "jnp.float32(step - 1) / warmup_steps",
        "tests/training/test_parts.py -k rate",
    ),
    Mutation(
        "epochs are counted in whole steps",
        "mlp_mixer/training/optimizer.py", "round(in_epochs * steps_per_epoch)",
        "round(in_epochs * int(steps_per_epoch))",
        "tests/training/test_parts.py -k durations",
    ),
    Mutation(
        "pixels are mapped to 0 to 1",
        "mlp_mixer/models/pixels.py",
        "/ 127.5 - 1",
        "/ 255",
        "tests/training/test_parts.py -k gradient_of_the_mean",
    ),
    Mutation(
        "all steps have the randomness of the first",
        "mlp_mixer/training/step.py", "jax.random.fold_in(jax.random.key(seed), step)",
        "jax.random.key(seed)", "tests/training/test_independent_step.py",
    ),
    Mutation(
        "every device has the randomness of the first rows",
        "mlp_mixer/training/step.py", "jax.lax.axis_index(axis) * count + numbers", "numbers",
        "tests/training/test_layouts.py",
    ),
    Mutation(
        "stochastic depth drops by the place in a part",
        "mlp_mixer/models/mixer.py", 'keep(self.make_rng("dropout"), rows, drop_path, (1, 1))',
        'keep(self.make_rng("dropout"), rows - rows[0], drop_path, (1, 1))',
        "tests/training/test_layouts.py -k slices",
    ),
    Mutation(
        "a part has more than one image",
        "mlp_mixer/training/step.py", "for parts in range(1, given + 1)",
        "for parts in range(1, given)",
        "tests/training/test_parts.py -k accumulated",
    ),
    Mutation(
        "the label of a mixed pair is of the device's own rows",
        "mlp_mixer/training/mixup.py", '_row_before(batch["label"], axis)',
        'jnp.roll(batch["label"], 1, 0)',
        "tests/training/test_layouts.py -k slices",
    ),
    Mutation(
        "pmap needs a teacher",
        "mlp_mixer/training/layouts.py", "in_axes=(None, 0, *[None] * len(teacher)),",
        "in_axes=(None, 0, None),",
        "tests/test_layouts.py -k every_layout",
    ),
    Mutation(
        "FSDP sums gradients within a slice only",
        "mlp_mixer/training/layouts.py",
        'return jax.lax.psum(part, "slice").astype(grad.dtype)', "return part.astype(grad.dtype)",
        "tests/training/test_layouts.py",
    ),
    Mutation(
        "bfloat16 sums are float32",
        "mlp_mixer/training/layouts.py",
        "return jax.lax.psum(grad.astype(self.sum_dtype), AXES).astype(grad.dtype)",
        "return jax.lax.psum(grad, AXES)",
        "tests/training/test_layouts.py",
    ),
    Mutation(
        "one device overlaps sums with itself",
        "mlp_mixer/runtime/compiler_options.py", "if mesh.size == 1:", "if mesh.size == 0:",
        "tests/training/test_layouts.py",
    ),
    Mutation(
        "the part apart is forgotten",
        "mlp_mixer/training/sam.py", "add(total, jax.tree.map(lambda x: x[-1], several))[0]",
        "total", "tests/training/test_parts.py -k accumulated",
    ),
    Mutation(
        "the last part stays in the loop",
        "mlp_mixer/training/recipe.py", "        last_apart=layout.overlaps_sums,\n", "",
        "tests/training/test_recipe.py -k apart",
    ),
    Mutation(
        "an option that the compiler lost ends the run",
        "mlp_mixer/runtime/compiler_options.py", "if not unknown:", "if True:",
        "tests/runtime/test_compiler_options.py",
    ),
    Mutation(
        "CutMix has its turn every time",
        "mlp_mixer/training/mixup.py",
        "dtype=jnp.float32) < self.cutmix_probability", "dtype=jnp.float32) < 2",
        "tests/training/test_mixup.py",
    ),
    Mutation(
        "CutMix's share is that of a box beyond the border",
        "mlp_mixer/training/mixup.py",
        "taken = (bottom - top) * (right - left)",
        "taken = size[0] * size[1] * jnp.square(length)",
        "tests/training/test_mixup.py",
    ),
    Mutation(
        "CutMix's boxes are twice as large",
        "mlp_mixer/training/mixup.py",
        "jnp.int32(pixels * length) // 2", "jnp.int32(pixels * length)",
        "tests/training/test_mixup.py",
    ),
    Mutation(
        "the average follows as slowly from the first update on",
        "mlp_mixer/training/averaging.py",
        "jnp.minimum(jnp.float32(decay), now / (now + 9))", "jnp.float32(decay)",
        "tests/training/test_averaging.py",
    ),
    Mutation(
        "the parameters are saved as their average",
        "mlp_mixer/training/steps.py", "AVERAGE_PREFIX: average}", "AVERAGE_PREFIX: state.params}",
        "tests/training/test_averaging.py",
    ),
    Mutation(
        "weights beside a run's are taken for the run's",
        "mlp_mixer/weights/files.py", "if path.name == AVERAGE_FILE:", "if False:",
        "tests/training/test_averaging.py",
    ),
    Mutation(
        "the stem learns as fast as the first block",
        "mlp_mixer/training/optimizer.py", "else last + 2", "else last + 1",
        "tests/training/test_averaging.py",
    ),
    Mutation(
        "the drop schedule is forgotten",
        "mlp_mixer/training/recipe.py", "        drop_schedule=drop_schedule,\n", "",
        "tests/training/test_parts.py -k drop",
    ),
    Mutation(
        "dropping begins a step late",
        "mlp_mixer/training/optimizer.py", "float32(step >= steps)", "float32(step > steps)",
        "tests/training/test_parts.py -k drop",
    ),
    Mutation(
        "dropout has no schedule",
        "mlp_mixer/models/dropout.py", "self.rate * scale", "self.rate",
        "tests/models/test_mixer.py -k factor",
    ),
    Mutation(
        "kept branches are divided by the rate",
        "mlp_mixer/models/mixer.py", "jnp.maximum(1 - drop_path, 1e-6)",
        "jnp.maximum(0.4 + drop_path, 1e-6)",
        "tests/models/test_mixer.py -k rescaled",
    ),
    Mutation(
        "SAM goes down to a lower loss",
        "mlp_mixer/training/sam.py", "w + scale * g", "w - scale * g",
        "tests/training/test_sam.py -k surrogate",
    ),
    Mutation(
        "GSAM adds what is orthogonal",
        "mlp_mixer/training/sam.py", "- self.alpha * g) / span", "+ self.alpha * g) / span",
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "GSAM divides by a gradient of zero",
        "mlp_mixer/training/sam.py", "jnp.where(square, square, 1)", "square",
        "tests/training/test_sam.py -k gsam_is_defined",
    ),
    Mutation(
        "SAM's rho follows a factor of the rate",
        "mlp_mixer/training/sam.py", "(schedule(step) - last)",
        "(schedule(step) / config.lr - last)", "tests/training/test_sam.py -k rho_follows",
    ),
    Mutation(
        "SAM logs the loss at perturbed weights",
        "mlp_mixer/training/sam.py", "return perturbed_grads, sums",
        'return perturbed_grads, sums | {"loss": perturbed_sums["loss"]}',
        "tests/training/test_independent_step.py",
    ),
    Mutation(
        "SAM perturbs each device's part of a group on its own",
        "mlp_mixer/training/sam.py", "            grads = together(grads)\n", "",
        "tests/training/test_layouts.py -k slices",
    ),
    Mutation(
        "the teacher sees images that are not mixed",
        "mlp_mixer/training/step.py", 'teacher_params}, images_of(rows))',
        'teacher_params}, normalise(rows["image"]))',
        "tests/training/test_independent_step.py -k twenty",
    ),
    Mutation(
        "the divergence of the teacher from the student",
        "mlp_mixer/models/losses.py",
        "jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher_logits)",
        "jax.nn.log_softmax(teacher_logits), jax.nn.log_softmax(logits)",
        "tests/training/test_teacher.py -k float64",
    ),
    Mutation(
        "the teacher has dropout",
        "mlp_mixer/training/step.py", 'teacher_params}, images_of(rows))',
        'teacher_params}, images_of(rows), train=True, rows=rows["row"], '
        'rngs={"dropout": jax.random.key(0)})',
        "tests/training/test_teacher.py -k nothing_moves",
    ),
    Mutation(
        "SAM asks the teacher twice",
        "mlp_mixer/training/step.py",
        'losses.distillation(logits, rows["teacher_logits"])',
        'losses.distillation(logits, rows["teacher_logits"] + 0 * teacher.apply('
        '{"params": params}, images_of(rows)))',
        "tests/training/test_teacher.py -k forward_pass",
    ),
    Mutation(
        "a teacher's outputs stay in its own order",
        "mlp_mixer/training/teacher.py", "    if order is not None:\n", "    if False:\n",
        "tests/training/test_teacher.py -k same_names",
    ),
    Mutation(
        "a run goes on with another teacher",
        "mlp_mixer/training/loop.py",
        "        resume.check_teacher(workdir, teacher, saved)\n", "",
        "tests/training/test_teacher.py -k resumes",
    ),
    Mutation(
        "the Hessian of half of the sample",
        "mlp_mixer/analysis/sharpness.py", "batch_product(flat, along, batch) for batch in batches",
        "batch_product(flat, along, batch) for batch in batches[::2]",
        "tests/analysis/test_sharpness.py -k dense",
    ),
)  # fmt: skip
