"""Weights in files."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
    Mutation(
        "a hub that is busy is taken for one without a config.json",
        "mlp_mixer/weights/hub.py", "if not (has_none or", "if not (True or",
        "tests/weights/test_hub.py",
    ),
    Mutation(
        "a workdir with a dot in its name is downloaded as a file",
        "mlp_mixer/weights/files.py", "or not is_file", "or not Path(last).suffix",
        "tests/weights/test_of_runs.py -k dot",
    ),
    Mutation(
        "an export overwrites its source",
        "mlp_mixer/inference/export.py", "        opened.check_not_overwritten(path)\n", "",
        "tests/inference/test_export.py",
    ),
    Mutation(
        "weights fine-tuned in timm are taken for those of the tag",
        "mlp_mixer/weights/timm_config.py", "if tag and len(counts) < 2:", "if tag:",
        "tests/weights/test_metadata.py -k not_those_of_the_tag",
    ),
    Mutation(
        "tiled biases of the tokens stay in the order of the parts",
        "mlp_mixer/weights/resize.py", 'np.tile(d1["bias"], copies)[raster]',
        'np.tile(d1["bias"], copies)',
        "tests/weights/test_resize.py -k tiled",
    ),
    Mutation(
        "resampled filters are not scaled by the number of patches",
        "mlp_mixer/weights/resample.py", "per_patch = resize.shape[1] / resize.shape[0]",
        "per_patch = 1.0",
        "tests/weights/test_resize.py",
    ),
    Mutation(
        "cubic resizing does not average where it shrinks",
        "mlp_mixer/weights/resample.py", " / max(old / new, 1)", "",
        "tests/weights/test_resize.py -k cubic",
    ),
    Mutation(
        "children from before Linen are sorted as words",
        "mlp_mixer/weights/pre_linen_names.py",
        "enumerate(sorted(ns))", "enumerate(sorted(ns, key=str))",
        "tests/weights/test_naming.py -k renumbered",
    ),
    Mutation(
        "the axes of PyTorch's convolutions are turned",
        "mlp_mixer/weights/timm_names.py",
        "array.transpose(2, 3, 1, 0)", "array.transpose(3, 2, 1, 0)",
        "tests/weights/test_timm_names.py",
    ),
    Mutation(
        "timm's weights are computed with the tanh GELU",
        "mlp_mixer/weights/load.py", '"exact" if layout == "timm" else "tanh"', '"tanh"',
        "tests/weights/test_timm_names.py -k gelu",
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
        "mlp_mixer/weights/pixel_range.py", "(kernel * shift[:, None]).sum((0, 1, 2))", "0",
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
        "mlp_mixer/weights/timm_config.py", 'found["pixel_range"] = [0.0, 1.0]', "pass",
        "tests/weights/test_metadata.py -k miil",
    ),
    Mutation(
        "weights for which the memory is too small are called damaged",
        "mlp_mixer/weights/npz.py", "        except MemoryError as error:",
        "        except KeyError as error:",
        "tests/weights/test_refusals.py -k memory",
    ),
    Mutation(
        "what is said of weights is saved unseen",
        "mlp_mixer/weights/save.py",
        "    said = metadata.checked(said, module.num_classes, str(path))\n",
        "",
        "tests/weights/test_save.py",
    ),
    Mutation(
        "a push replaces what is there",
        "mlp_mixer/weights/hub.py", "    if not overwrite:\n", "    if False:\n",
        "tests/analysis/test_push.py -k overwritten",
    ),
    Mutation(
        "a push replaces what others have pushed in the meantime",
        "mlp_mixer/weights/hub.py", "parent_commit=parent", "parent_commit=None",
        "tests/analysis/test_push.py -k meantime",
    ),
    Mutation(
        "weights that should be private go to a public repository",
        "mlp_mixer/weights/hub.py", "if private and there and not there.private:", "if False:",
        "tests/analysis/test_push.py -k private",
    ),
    Mutation(
        "a revision on the hub is forgotten",
        "mlp_mixer/weights/hub.py", "download(name, WEIGHTS_FILE, revision=revision)",
        "download(name, WEIGHTS_FILE)",
        "tests/weights/test_hub.py -k revisions",
    ),
    Mutation(
        "timm is told that no aspect ratio changes",
        "mlp_mixer/weights/timm_config.py", '"crop_mode": _CROP_MODES[crop]',
        '"crop_mode": "center"',
        "tests/weights/test_timm_config.py",
    ),
)  # fmt: skip
