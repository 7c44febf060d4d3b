"""The mutations of benchmarks/mutations.py, by the room whose tests should notice them."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """A line of the code, and a wrong one to put in its place.

    Attributes:
        breaks: what is wrong with it, in words.
        file: that it is in.
        old: text that occurs there once.
        new: what replaces it.
        tests: arguments of pytest for the tests that should fail.
    """

    breaks: str
    file: str
    old: str
    new: str
    tests: str


INDEPENDENT = "tests/training/test_independent_step.py"
PARTS = "tests/training/test_parts.py"
COMMANDS = "tests/evaluation/test_commands.py"

MODELS = (
    Mutation(
        "dropout does not divide by the share that is kept",
        "mlp_mixer/models/drop.py", "x / (1 - self.rate)", "x",
        "tests/models/test_drop.py tests/models/test_mixer.py",
    ),
    Mutation(
        "no dropout after an MLP's second Dense",
        "mlp_mixer/models/mixer.py",
        "return dropout(Dense(x.shape[-1], dtype=self.dtype)(y), rows)",
        "return Dense(x.shape[-1], dtype=self.dtype)(y)",
        "tests/models/test_drop.py tests/models/test_mixer.py",
    ),
    Mutation(
        "stochastic depth drops with the same probability in all blocks",
        "mlp_mixer/models/mixer.py", "np.linspace(0.0, self.stoch_depth,",
        "np.linspace(self.stoch_depth, self.stoch_depth,",
        "tests/models/test_mixer.py",
    ),
    Mutation(
        "the gradient of a bias is summed in the number type of the input",
        "mlp_mixer/models/layers.py", "return jax.lax.broadcast_in_dim(bias, like.shape,",
        "return jax.lax.broadcast_in_dim(bias.astype(like.dtype), like.shape,",
        "tests/models/test_layers.py",
    ),
    Mutation(
        "the GELU is computed in the number type of its input",
        "mlp_mixer/models/gelu.py", "    return form(x.astype(jnp.float32)).astype(x.dtype)",
        "    return form(x)",
        "tests/models/test_gelu.py tests/models/test_layers.py",
    ),
    Mutation(
        "the GELU's cubic term is off by a thousandth",
        "mlp_mixer/models/gelu.py", "0.044715", "0.0448",
        "tests/models/test_gelu.py",
    ),
    Mutation(
        "LayerNorm's statistics are computed in the number type of the block",
        "mlp_mixer/models/layers.py", "x = x.astype(jnp.float32)\n", "x = x.astype(self.dtype)\n",
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
        "mlp_mixer/models/parameters.py", 'if last == "kernel" and name != "head/kernel":',
        'if last == "kernel":',
        "tests/models/test_parameters.py tests/models/test_mixer.py",
    ),
    Mutation(
        "a row drops what its place among the device's rows says, whatever the batch",
        "mlp_mixer/models/drop.py", "jax.random.fold_in(key, row)", "key",
        "tests/models/test_drop.py tests/models/test_mixer.py",
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
)  # fmt: skip

DATA = (
    Mutation(
        "random rotation and zoom are ignored",
        "mlp_mixer/data/augment.py", "angle * self.rotate, np.exp(zoom * self.zoom)", "0.0, 1.0",
        "tests/data/test_augment.py",
    ),
    Mutation(
        "zoom goes twice as far",
        "mlp_mixer/data/augment.py", "np.exp(zoom * self.zoom)", "np.exp(2 * zoom * self.zoom)",
        "tests/data/test_augment.py",
    ),
    Mutation(
        "the random crop is resized by area",
        "mlp_mixer/data/augment.py", 'image = images.resize(image, larger, "bilinear")',
        'image = images.resize(image, larger, "area")',
        "tests/data/test_augment.py",
    ),
    Mutation(
        "the Inception crop is resized by area",
        "mlp_mixer/data/augment.py", 'image = images.resize(image, self.size, "bilinear")',
        'image = images.resize(image, self.size, "area")',
        "tests/data/test_augment.py",
    ),
    Mutation(
        "flips are upside down",
        "mlp_mixer/data/augment.py", "cv2.flip(batch[i], 1)", "cv2.flip(batch[i], 0)",
        "tests/data/test_augment.py",
    ),
    Mutation(
        "the aspects of Inception crops are those of its inverse",
        "mlp_mixer/data/augment.py", "rng.uniform(3 / 4, 4 / 3)", "rng.uniform(3 / 4, 1)",
        "tests/data/test_augment.py",
    ),
    Mutation(
        "RandAugment knows no negative magnitudes",
        "mlp_mixer/data/randaugment.py", "signed = -level if negate else level", "signed = level",
        "tests/data/test_randaugment.py",
    ),
    Mutation(
        "RandAugment's colours fade less",
        "mlp_mixer/data/randaugment.py", "1.8 * level + 0.1", "1.8 * level",
        "tests/data/test_randaugment.py",
    ),
    Mutation(
        "the middle of an image is off by a pixel",
        "mlp_mixer/data/images.py", "((have - want) // 2 for",
        "((have - want) // 2 + (have > want) for",
        "tests/data/test_images.py",
    ),
    Mutation(
        "the evaluation's area resize is bilinear",
        "mlp_mixer/data/images.py", 'max(cover[1], round(w * scale))), "area"',
        'max(cover[1], round(w * scale))), "bilinear"',
        "tests/data/test_images.py",
    ),
    Mutation(
        "what is transparent is black",
        "mlp_mixer/data/decoding.py", 'image.size, "white")', 'image.size, "black")',
        "tests/data/test_images.py",
    ),
    Mutation(
        "images are not turned as their metadata says",
        "mlp_mixer/data/decoding.py", "opened.getexif().get(ORIENTATION)", "1",
        "tests/data/test_images.py",
    ),
    Mutation(
        "parts of a split are shuffled with another seed",
        "mlp_mixer/data/sources.py", "np.random.RandomState(0).permutation(len(source))",
        "np.random.RandomState(1).permutation(len(source))",
        "tests/data/test_sources.py",
    ),
    Mutation(
        "the digits are split with another seed",
        "mlp_mixer/data/digits.py", "np.random.RandomState(0)", "np.random.RandomState(1)",
        "tests/data/test_sources.py -k digits",
    ),
    Mutation(
        "a part of a split begins one example late",
        "mlp_mixer/data/splits.py", "round(number * count / 100)", "int(number * count / 100) + 1",
        "tests/data/test_splits.py",
    ),
    Mutation(
        "a file that is not there is waited for",
        "mlp_mixer/data/examples.py",
        "except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError):",
        "except ZeroDivisionError:",
        "tests/data/test_pipeline.py -k waiting",
    ),
    Mutation(
        "every epoch has the same order",
        "mlp_mixer/data/pipeline.py", "(self.seed, 0, epoch)", "(self.seed, 0, 0)",
        "tests/data/test_pipeline.py -k epoch",
    ),
    Mutation(
        "every batch is augmented alike",
        "mlp_mixer/data/pipeline.py", "(self.seed, 1, k)", "(self.seed, 1, 0)",
        "tests/data/test_pipeline.py -k augmentation",
    ),
    Mutation(
        "a run that goes on begins with the first batch",
        "mlp_mixer/data/pipeline.py", "start * batch_size + rows.start", "rows.start",
        "tests/data/test_pipeline.py -k depends",
    ),
    Mutation(
        "rows that only fill up the last batch count",
        "mlp_mixer/data/workers.py", "labels[row], mask[row] = label, 1",
        "labels[row], mask[:] = label, 1",
        "tests/data/test_pipeline.py -k evaluation",
    ),
    Mutation(
        "classes in another order are numbered the wrong way round",
        "mlp_mixer/data/class_names.py", "labels[:, np.argsort(order)]", "labels[:, order]",
        "tests/data/test_class_names.py",
    ),
    Mutation(
        "VTAB counts objects from 0",
        "mlp_mixer/data/vtab.py", 'return len(objects["size"]) - 3', 'return len(objects["size"])',
        "tests/test_configs.py -k vtab",
    ),
    Mutation(
        "damaged TFRecords are read",
        "mlp_mixer/data/tfrecord.py",
        'if struct.unpack("<I", tail)[0] != masked_crc32c(record):', "if False:",
        "tests/data/test_prepare.py -k damaged",
    ),
    Mutation(
        "fewer examples per class are taken than asked for, without a word",
        "mlp_mixer/data/sources.py", "if len(of_class) < count:", "if not len(of_class):",
        "tests/data/test_sources.py -k few_examples",
    ),
)  # fmt: skip

TRAINING = (
    Mutation(
        "sigmoid is trained as softmax",
        "mlp_mixer/training/setup.py", "loss=config.loss,", 'loss="softmax",', INDEPENDENT,
    ),
    Mutation(
        "no label smoothing",
        "mlp_mixer/training/setup.py", "label_smoothing=config.label_smoothing",
        "label_smoothing=0 * config.label_smoothing", INDEPENDENT,
    ),
    Mutation(
        "no mixup",
        "mlp_mixer/training/setup.py", "Mixup(config.mixup,", "Mixup(0 * config.mixup,",
        INDEPENDENT,
    ),
    Mutation(
        "mixup for each example where it is to be for the batch",
        "mlp_mixer/training/setup.py", "config.mixup_per_example)",
        "not config.mixup_per_example)", INDEPENDENT,
    ),
    Mutation(
        "the decay ends at zero",
        "mlp_mixer/training/setup.py", "warmup, config.decay_end)", "warmup)", INDEPENDENT,
    ),
    Mutation(
        "no clipping",
        "mlp_mixer/training/setup.py", "grad_clip=config.grad_clip,", "grad_clip=0.0,", INDEPENDENT,
    ),
    Mutation(
        "randomness is that of seed 0",
        "mlp_mixer/training/setup.py", "        seed=config.seed,\n    )", "    )",
        INDEPENDENT,
    ),
    Mutation(
        "the other image of a mixed pair is labelled without smoothing",
        "mlp_mixer/training/step.py",
        'losses.targets(rows["partner_label"], model.num_classes, label_smoothing)',
        'losses.targets(rows["partner_label"], model.num_classes, 0)', INDEPENDENT,
    ),
    Mutation(
        "dtype is ignored",
        "mlp_mixer/training/setup.py", "dtype=compute_dtype(config.dtype,",
        'dtype=compute_dtype("float32",',
        "tests/training/test_setup.py",
    ),
    Mutation(
        "remat is ignored",
        "mlp_mixer/training/setup.py", "module.clone(remat=config.remat)", "module",
        "tests/training/test_setup.py",
    ),
    Mutation(
        "remat is accepted where it does nothing",
        "mlp_mixer/training/setup.py", "    elif config.remat:\n", "    elif False:\n",
        "tests/training/test_setup.py",
    ),
    Mutation(
        "sum_dtype is ignored",
        "mlp_mixer/training/setup.py", "(config.layout, config.sum_dtype, devices)",
        '(config.layout, "float32", devices)',
        "tests/training/test_setup.py",
    ),
    Mutation(
        "accum_steps is ignored",
        "mlp_mixer/training/setup.py", "        accum_steps=accum_steps,\n", "",
        "tests/training/test_setup.py",
    ),
    Mutation(
        "the sigmoid loss is a mean over classes",
        "mlp_mixer/training/losses.py", "(logits, targets).sum(-1)", "(logits, targets).mean(-1)",
        f"{PARTS} -k losses",
    ),
    Mutation(
        "label smoothing takes the share away and gives it to nobody",
        "mlp_mixer/training/losses.py", " + smoothing / num_classes", "",
        f"{PARTS} -k smoothing",
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
        f"{PARTS} -k decay",
    ),
    Mutation(
        "weight decay is not multiplied by the rate",
        "mlp_mixer/training/optimizer.py",
        "        optax.add_decayed_weights(config.weight_decay, mask=kernels),\n"
        "        optax.scale_by_learning_rate(schedule),\n",
        "        optax.scale_by_learning_rate(schedule),\n"
        "        optax.add_decayed_weights(-config.weight_decay, mask=kernels),\n",
        f"{PARTS} -k decay",
    ),
    Mutation(
        "Adam forgets squares ten times as fast",
        "mlp_mixer/training/optimizer.py", "b2=0.999", "b2=0.99",
        f"{PARTS} -k optimizers",
    ),
    Mutation(
        "the warm-up begins a step later",
        "mlp_mixer/training/optimizer.py", "jnp.minimum(1.0, step / warmup_steps)",
        "jnp.minimum(1.0, (step - 1) / warmup_steps)",
        f"{PARTS} -k rate",
    ),
    Mutation(
        "epochs are counted in whole steps",
        "mlp_mixer/training/optimizer.py", "round(in_epochs * steps_per_epoch)",
        "round(in_epochs * int(steps_per_epoch))",
        f"{PARTS} -k durations",
    ),
    Mutation(
        "pixels are mapped to 0 to 1",
        "mlp_mixer/training/step.py", "/ 127.5 - 1", "/ 255", f"{PARTS} -k gradient_of_the_mean",
    ),
    Mutation(
        "all steps have the randomness of the first",
        "mlp_mixer/training/step.py", "jax.random.fold_in(jax.random.key(seed), step)",
        "jax.random.key(seed)", INDEPENDENT,
    ),
    Mutation(
        "every device has the randomness of the first rows",
        "mlp_mixer/training/step.py", "jax.lax.axis_index(axis) * count + jnp.arange(count)",
        "jnp.arange(count)",
        "tests/training/test_parallel.py",
    ),
    Mutation(
        "FSDP sums gradients within a slice only",
        "mlp_mixer/training/parallel.py",
        'return jax.lax.psum(part, "slice").astype(grad.dtype)', "return part.astype(grad.dtype)",
        "tests/training/test_parallel.py",
    ),
    Mutation(
        "bfloat16 sums are float32",
        "mlp_mixer/training/parallel.py",
        "return jax.lax.psum(grad.astype(self.sum_dtype), AXES).astype(grad.dtype)",
        "return jax.lax.psum(grad, AXES)",
        "tests/training/test_parallel.py",
    ),
    Mutation(
        "the logged learning rate is that of another step",
        "mlp_mixer/training/loop.py", "self._recipe.schedule(step - 1)",
        "self._recipe.schedule(step + 3)",
        "tests/test_train.py -k leaves_weights",
    ),
    Mutation(
        'the report of a step is written when that step is saved already',
        "mlp_mixer/training/loop.py",
        'self._report(step, self._meter.flush(step))',
        'self._meter._fetch([])',
        "tests/test_killed.py -k report_is",
    ),
    Mutation(
        'a failing evaluation loses the steps since the last checkpoint',
        "mlp_mixer/training/loop.py",
        'if jax.process_count() == 1:  # others',
        'if False:  # others',
        "tests/test_killed.py -k fails",
    ),
    Mutation(
        'a run is finished before its last evaluation',
        "mlp_mixer/training/loop.py",
        '            self._save_weights(source, state)\n',
        '            run.mark_finished(self._workdir, total)\n'
        '            self._save_weights(source, state)\n',
        "tests/test_killed.py -k fails",
    ),
    Mutation(
        'a run goes on with whatever data there is',
        "mlp_mixer/training/loop.py",
        '        same_data.check(workdir, config, source, start)\n',
        '',
        "tests/test_killed.py -k only_with_the_data",
    ),
    Mutation(
        'from Python nothing is seen',
        "mlp_mixer/training/loop.py",
        'with visible_log.SHOWN, run.lock(workdir):',
        'with run.lock(workdir):',
        "tests/test_killed.py -k seen",
    ),
    Mutation(
        "Orbax's silence stays in the process",
        "mlp_mixer/training/orbax_errors.py",
        '            logger.removeFilter(_is_ours)\n',
        '            pass\n',
        "tests/test_killed.py -k seen",
    ),
    Mutation(
        'two runs of one process share a workdir',
        "mlp_mixer/training/workdir.py",
        'if folder in _held:',
        'if False:',
        "tests/training/test_workdir.py",
    ),
    Mutation(
        'workdirs of several processes are not compared',
        "mlp_mixer/training/workdir.py",
        '        _check_shared(workdir)\n',
        '',
        "tests/training/test_workdir.py",
    ),
    Mutation(
        'a new workdir stays when its run was refused',
        "mlp_mixer/training/workdir.py",
        'if is_new and [',
        'if False and [',
        "tests/training/test_workdir.py",
    ),
    Mutation(
        'the number of examples is not compared',
        "mlp_mixer/training/same_data.py",
        'if have["examples"] != len(source):',
        'if False:',
        "tests/training/test_workdir.py",
    ),
    Mutation(
        'classes in another order are not noticed',
        "mlp_mixer/training/same_data.py",
        'if (there := run.read_classes(workdir)) != source.class_names:',
        'if sorted(there := run.read_classes(workdir)) != sorted(source.class_names):',
        "tests/training/test_workdir.py",
    ),
    Mutation(
        'the parts of a source have its digest',
        "mlp_mixer/data/sources.py",
        'fingerprint(self._source.digest(), self._indices)',
        'self._source.digest()',
        "tests/data/test_digest.py",
    ),
    Mutation(
        'file names do not count in a digest',
        "mlp_mixer/data/folders.py",
        'self._labels, *names)',
        'self._labels)',
        "tests/data/test_digest.py",
    ),
    Mutation(
        'TensorBoard keeps the events of steps that were lost',
        "mlp_mixer/training/metrics.py",
        '        self._events.write_event(event_pb2.Event(step=start, session_log=began))\n',
        '',
        "tests/training/test_metrics.py",
    ),
    Mutation(
        'events that a kill has lost stay lost',
        "mlp_mixer/training/metrics.py",
        '        self._add_events(start, self._there)\n',
        '',
        "tests/training/test_metrics.py",
    ),
    Mutation(
        'events are held back',
        "mlp_mixer/training/metrics.py",
        '        self._events.flush()\n',
        '',
        "tests/training/test_metrics.py",
    ),
    Mutation(
        'scalars of the step a run goes on from are written twice',
        "mlp_mixer/training/metrics.py",
        'if self._there.get(name) != x}',
        'if True}',
        "tests/training/test_metrics.py",
    ),
    Mutation(
        'a large source hangs a worker that dies',
        "mlp_mixer/data/workers.py",
        'futures.ProcessPoolExecutor(workers, context, _start_worker, (path,))',
        'futures.ProcessPoolExecutor(workers, context, _start_worker, (path, pickled))',
        "tests/data/test_workers.py",
    ),
    Mutation(
        "nothing reaches TensorBoard",
        "mlp_mixer/training/metrics.py", "            self._add_events(step, values)\n", "",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "a report is of its first step only",
        "mlp_mixer/training/metrics.py",
        "sum(values[name] for values in self._window) / len(self._window)",
        "self._window[0][name]",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "the speed is seven times too high",
        "mlp_mixer/training/metrics.py", "self._per_device / seconds",
        "7 * self._per_device / seconds",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "the time left is three times too long",
        "mlp_mixer/training/metrics.py", "(self._total_steps - step) * seconds",
        "3 * (self._total_steps - step) * seconds",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "evaluation counts as training time",
        "mlp_mixer/training/metrics.py", "self._paused += seconds", "pass",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "no profile is ever taken",
        "mlp_mixer/training/metrics.py", "if self._last and step == self._first:", "if False:",
        "tests/training/test_metrics.py",
    ),
    Mutation(
        "a loss that is not finite is trained on",
        "mlp_mixer/training/metrics.py", "if not all(map(math.isfinite, values.values())):",
        "if False:",
        "tests/test_train.py -k not_finite",
    ),
    Mutation(
        "one checkpoint more is deleted than is to be",
        "mlp_mixer/training/checkpoint.py", "[: -self._keep]", "[: 1 - self._keep or None]",
        "tests/training/test_checkpoint.py -k newest",
    ),
    Mutation(
        "arrays of a checkpoint are not compared with what was saved",
        "mlp_mixer/training/checkpoint.py",
        "if names := digests.changed(arrays, found):", "if names := []:",
        "tests/training/test_checkpoint.py -k last_good",
    ),
    Mutation(
        "two elements that swap their places have the same digest",
        "mlp_mixer/training/digests.py", "first = bits ^ (place * np.uint32(0x9E3779B1))",
        "first = bits",
        "tests/training/test_checkpoint.py -k digest",
    ),
    Mutation(
        "of equally good rates the highest is taken",
        "mlp_mixer/training/sweep.py", "(-finite[lr], lr)", "(-finite[lr], -lr)",
        "tests/training/test_sweep.py",
    ),
)  # fmt: skip

WEIGHTS = (
    Mutation(
        "tiled biases of the tokens stay in the order of the parts",
        "mlp_mixer/weights/resolution.py", 'np.tile(d1["bias"], copies)[raster]',
        'np.tile(d1["bias"], copies)',
        "tests/weights/test_resolution.py -k tiled",
    ),
    Mutation(
        "resampled filters are not scaled by the number of patches",
        "mlp_mixer/weights/resample.py", "per_patch = resize.shape[1] / resize.shape[0]",
        "per_patch = 1.0",
        "tests/weights/test_resolution.py",
    ),
    Mutation(
        "cubic resizing does not average where it shrinks",
        "mlp_mixer/weights/resample.py", " / max(old / new, 1)", "",
        "tests/weights/test_resolution.py -k cubic",
    ),
    Mutation(
        "children from before Linen are sorted as words",
        "mlp_mixer/weights/pre_linen.py", "enumerate(sorted(ns))", "enumerate(sorted(ns, key=str))",
        "tests/weights/test_layouts.py -k renumbered",
    ),
    Mutation(
        "the axes of PyTorch's convolutions are turned",
        "mlp_mixer/weights/timm.py", "array.transpose(2, 3, 1, 0)", "array.transpose(3, 2, 1, 0)",
        "tests/weights/test_timm.py",
    ),
    Mutation(
        "timm's weights are computed with the tanh GELU",
        "mlp_mixer/weights/load.py", '"exact" if layout == "timm" else "tanh"', '"tanh"',
        "tests/weights/test_timm.py -k gelu",
    ),
    Mutation(
        "a converted file does not say what it was made of",
        "mlp_mixer/weights/convert.py", '"sha256": digest', '"sha256": "0" * 64',
        "tests/weights/test_convert.py",
    ),
    Mutation(
        "numbers that a type cannot hold are written",
        "mlp_mixer/weights/convert.py", "if not_finite(cast):", "if False:",
        "tests/weights/test_convert.py -k unwritable",
    ),
    Mutation(
        "pixels in another range are folded into the kernel only",
        "mlp_mixer/weights/pixels.py", "(kernel * shift[:, None]).sum((0, 1, 2))", "0",
        "tests/weights/test_metadata.py -k pixels",
    ),
    Mutation(
        "a new head keeps the names of the old one's classes",
        "mlp_mixer/weights/load.py", '            settings.pop("class_names", None)\n', "",
        "tests/weights/test_metadata.py -k new_head",
    ),
    Mutation(
        "infinite weights are loaded",
        "mlp_mixer/weights/finite.py", "np.count_nonzero(np.isfinite(chunk))",
        "np.count_nonzero(~np.isnan(chunk))",
        "tests/weights/test_refusals.py",
    ),
    Mutation(
        "MIIL's models are taken to be trained on pixels from -1 to 1",
        "mlp_mixer/weights/hub.py", 'found["pixel_range"] = [0.0, 1.0]', "pass",
        "tests/weights/test_metadata.py -k miil",
    ),
)  # fmt: skip

EVALUATION = (
    Mutation(
        "the loss of an evaluation is that of softmax",
        "mlp_mixer/evaluation/classification.py", "            loss=config.loss,\n", "",
        "tests/evaluation/test_evaluators.py",
    ),
    Mutation(
        "rows that only fill up a batch count in an evaluation",
        "mlp_mixer/evaluation/classification.py",
        'counted = batch["mask"] * (targets.max(1) > 0)', "counted = targets.max(1) > 0",
        "tests/evaluation/test_classification.py",
    ),
    Mutation(
        "images without a label count",
        "mlp_mixer/evaluation/classification.py",
        'counted = batch["mask"] * (targets.max(1) > 0)', 'counted = batch["mask"]',
        "tests/evaluation/test_classification.py",
    ),
    Mutation(
        "sigmoid's probabilities are those of softmax",
        "mlp_mixer/evaluation/classifier.py", 'jax.nn.sigmoid(logits) if loss == "sigmoid" else ',
        "",
        f"{COMMANDS} tests/test_export.py",
    ),
    Mutation(
        "without a word about the crop the whole image is seen",
        "mlp_mixer/evaluation/classifier.py", 'said.get("crop_fraction", 0.875)',
        'said.get("crop_fraction", 1.0)',
        COMMANDS,
    ),
    Mutation(
        "few-shot features are not standardised",
        "mlp_mixer/evaluation/fewshot.py", "features.std(0) + 1e-5", "np.ones(features.shape[1])",
        "tests/evaluation/test_fewshot.py -k closed_form",
    ),
    Mutation(
        "all few-shot draws are the same",
        "mlp_mixer/evaluation/fewshot.py", "rng = np.random.default_rng(seed)",
        "rng = np.random.default_rng(0)",
        "tests/evaluation/test_fewshot.py",
    ),
    Mutation(
        "evaluations for the end only run every time",
        "mlp_mixer/evaluation/evaluators.py", "if only_at_end and not is_last:", "if False:",
        "tests/evaluation/test_evaluators.py",
    ),
    Mutation(
        "the mean over five tasks is one over four",
        "mlp_mixer/evaluation/suite.py", 'np.mean([found["ImageNet"], *transfers.values()])',
        "np.mean([*transfers.values()])",
        "tests/evaluation/test_paper.py -k suite",
    ),
    Mutation(
        "a published number is misprinted",
        "mlp_mixer/evaluation/paper.py", "86.32, 89.14, 95.49", "86.23, 89.14, 95.49",
        "tests/evaluation/test_paper.py -k table",
    ),
    Mutation(
        "predictions are shown from the least likely on",
        "mlp_mixer/evaluation/predict.py", 'np.argsort(-row, kind="stable")',
        'np.argsort(row, kind="stable")',
        COMMANDS,
    ),
)  # fmt: skip

ANALYSIS = (
    Mutation(
        "the frequencies of filters are those of their amplitudes",
        "mlp_mixer/analysis/ordering.py", '(1, 2), norm="ortho") ** 2', '(1, 2), norm="ortho")',
        "tests/analysis/test_ordering.py",
    ),
    Mutation(
        "a filter is paired with the one most like it",
        "mlp_mixer/analysis/ordering.py", "np.argmin(similarity", "np.argmax(similarity",
        "tests/analysis/test_ordering.py",
    ),
    Mutation(
        "the parameters that undo a permutation leave the bias as it was",
        "mlp_mixer/analysis/permutation.py", 'np.asarray(second["bias"])[patches]',
        'np.asarray(second["bias"])',
        "tests/analysis/test_permutation.py",
    ),
    Mutation(
        "training takes as much arithmetic as a forward pass",
        "mlp_mixer/analysis/tradeoff.py", "training_flops=3 * forward * images",
        "training_flops=forward * images",
        "tests/analysis/test_commands.py -k point",
    ),
    Mutation(
        "a sum over devices sends every byte once",
        "mlp_mixer/analysis/tpu/estimate.py",
        'times = 2 if collective.kind == "all-reduce" else 1', "times = 1",
        "tests/analysis/test_plan.py -k sends",
    ),
    Mutation(
        "communication costs no time",
        "mlp_mixer/analysis/tpu/estimate.py",
        "max(self.core_seconds, self.hbm_seconds) + self.ici_seconds",
        "max(self.core_seconds, self.hbm_seconds)",
        "tests/analysis/test_plan.py",
    ),
    Mutation(
        "VTAB's structured tasks begin one too early",
        "mlp_mixer/analysis/transfers.py", "_VTAB[11:]", "_VTAB[10:]",
        "tests/analysis/test_transfers.py",
    ),
    Mutation(
        "a quarter of the units of an enlarged model is shown in the wrong shape",
        "mlp_mixer/analysis/filters.py", "kernel.T.reshape(-1, *module.grid)",
        "kernel.T.reshape(-1, *module.grid[::-1])",
        "tests/analysis/test_commands.py -k filters",
    ),
)  # fmt: skip

CONFIGS = (
    Mutation(
        "ImageNet is trained with a mixup of 0.2",
        "configs/imagenet.py", "config.mixup = 0.5", "config.mixup = 0.2", "tests/test_configs.py",
    ),
    Mutation(
        "ImageNet is trained with weight decay as big_vision writes it",
        "configs/imagenet.py", "config.weight_decay = 0.1", "config.weight_decay = 1e-4",
        "tests/test_configs.py",
    ),
    Mutation(
        "ImageNet is trained on the images that it is judged by",
        "configs/imagenet.py", '"train[:99%]"', '"train"', "tests/test_configs.py",
    ),
    Mutation(
        "ImageNet is trained with softmax",
        "configs/imagenet.py", 'config.loss = "sigmoid"', 'config.loss = "softmax"',
        "tests/test_configs.py",
    ),
    Mutation(
        "L/16 on ImageNet-21k is augmented as B/16",
        "configs/imagenet21k.py", '"L": (20.0, 0.5)', '"L": (10.0, 0.5)', "tests/test_configs.py",
    ),
    Mutation(
        "pets are fine-tuned for as long as CIFAR-10",
        "configs/transfer.py", '"train[:90%]", "train[90%:]", 500, 100),\n    "flowers"',
        '"train[:90%]", "train[90%:]", 10_000, 100),\n    "flowers"', "tests/test_configs.py",
    ),
    Mutation(
        "transfers are clipped at the default of no clipping",
        "configs/common.py", "config.grad_clip = 1.0", "config.grad_clip = 0.0",
        "tests/test_configs.py",
    ),
    Mutation(
        "VTAB's tasks are flipped",
        "configs/transfer.py", "dict(random_crop=1.0)", "dict(random_crop=1.0, flip=True)",
        "tests/test_configs.py",
    ),
)  # fmt: skip

COMMAND_LINE = (
    Mutation(
        "a size such as 160x256 is width x height",
        "mlp_mixer/cli.py", "return int(found[1]), int(found[2] or found[1])",
        "return int(found[2] or found[1]), int(found[1])",
        "tests/test_export.py",
    ),
    Mutation(
        "a user's error ends with status 0",
        "mlp_mixer/cli.py", "=1 shows where)\", file=sys.stderr)\n        sys.exit(1)",
        "=1 shows where)\", file=sys.stderr)\n        sys.exit(0)",
        f"{COMMANDS} -k mistake",
    ),
    Mutation(
        "columns of tables are as wide as their headings",
        "mlp_mixer/cli.py", "widths = [max(map(len, column)) for column",
        "widths = [len(column[0]) for column",
        "tests/evaluation/test_paper.py -k suite",
    ),
    Mutation(
        "a wrong field of a config ends with status 0",
        "mlp_mixer/cli.py", "sys.exit(2)", "sys.exit(0)",
        "tests/test_train.py -k mistake",
    ),
    Mutation(
        "of arguments that no command knows nothing is said",
        "mlp_mixer/__main__.py",
        "if len(overrides) < len(rest) or (rest and not hasattr(args, \"config\")):", "if False:",
        COMMANDS,
    ),
)  # fmt: skip

MUTATIONS = (
    *MODELS, *DATA, *TRAINING, *WEIGHTS, *EVALUATION, *ANALYSIS, *CONFIGS, *COMMAND_LINE,
)  # fmt: skip
