"""Robustness sets: their classes, protocols, and ImageNet-C's numbers."""

from benchmarks.mutation_list.mutation import Mutation

EVALUATION = "tests/evaluation/test_robustness.py"
MUTATIONS = (
    Mutation(
        "ImageNet-A has another class",
        "mlp_mixer/data/robustness_sets.py", "    6, 11, 13, 15,", "    6, 11, 13, 16,",
        "tests/data/test_robustness_sets.py -k published_ones",
    ),
    Mutation(
        "class folders are labelled by their position",
        "mlp_mixer/data/folders.py", "np.full(len(names), label_of[folder], np.int32)",
        "np.full(len(names), len(groups), np.int32)",
        "tests/data/test_robustness_sets.py -k by_id",
    ),
    Mutation(
        "folders that are numbers count in the order of their names",
        "mlp_mixer/data/class_files.py", "{folder: int(order[int(folder)]) for folder in present}",
        "{folder: i for i, folder in enumerate(sorted(present))}",
        "tests/data/test_robustness_sets.py -k numerical",
    ),
    Mutation(
        "the 200 logits are those of other classes where the order is another",
        "mlp_mixer/evaluation/robustness.py", "{name: imagenet_at[list(few)] for",
        "{name: np.asarray(few) for",
        f"{EVALUATION} -k one_look",
    ),
    Mutation(
        "examples of other classes count among a subset",
        "mlp_mixer/evaluation/classification.py",
        '((among.max(1) > 0) * batch["mask"]).sum()', 'batch["mask"].sum()',
        f"{EVALUATION} -k one_look",
    ),
    Mutation(
        "the two protocols of ImageNet-A are mixed up",
        "mlp_mixer/evaluation/robustness.py",
        'return {key: of_200, f"{key}_of_1000": found["accuracy"]}',
        'return {key: found["accuracy"], f"{key}_of_1000": of_200}',
        f"{EVALUATION} -k one_look",
    ),
    Mutation(
        "a set with images of other classes passes for ImageNet-A",
        "mlp_mixer/evaluation/robustness.py",
        'if one.classes and found.get(f"{name}/examples") != images:', "if False:",
        f"{EVALUATION} -k another_set",
    ),
    Mutation(
        "corrupted images are cropped as others are",
        "mlp_mixer/evaluation/robustness.py", 'one.split), "resmall", 1.0)', "one.split))",
        f"{EVALUATION} -k cropped",
    ),
    Mutation(
        "each set is compiled anew",
        "mlp_mixer/evaluation/robustness.py", "self._evaluation = self._evaluation or Class",
        "self._evaluation = Class",
        f"{EVALUATION} -k traced",
    ),
    Mutation(
        "a source that was given and is not there is left out",
        "mlp_mixer/evaluation/robustness.py", "if given and name != REAL:", "if False:",
        f"{EVALUATION} -k not_there",
    ),
    Mutation(
        "another error of AlexNet",
        "mlp_mixer/evaluation/corruption_error.py", '"brightness": 0.564592',
        '"brightness": 0.654592',
        "tests/evaluation/test_corruption_error.py -k by_hand",
    ),
    Mutation(
        "relative mCE compares with the model's own clean error",
        "mlp_mixer/evaluation/corruption_error.py", "(ALEXNET[name] - ALEXNET_CLEAN)",
        "(ALEXNET[name] - (1 - clean_accuracy))",
        "tests/evaluation/test_corruption_error.py -k by_hand",
    ),
    Mutation(
        "extra corruptions count",
        "mlp_mixer/evaluation/corruption_error.py",
        "np.mean([by_corruption[name] for name in COUNTED])",
        "np.mean(list(by_corruption.values()))",
        "tests/evaluation/test_corruption_error.py -k extra",
    ),
    Mutation(
        "a mean over fewer than 15 corruptions",
        "mlp_mixer/evaluation/corruption_error.py", "if not set(COUNTED) <= set(by_corruption):",
        "if not by_corruption:",
        "tests/evaluation/test_corruption_error.py -k fewer",
    ),
    Mutation(
        "a published figure of a file is misprinted",
        "mlp_mixer/analysis/published_robustness.py", "(68.6, 75.8, 55.0, 22.6, 44.6)",
        "(68.6, 75.8, 55.0, 26.2, 44.6)",
        "tests/analysis/test_robustness.py -k list_of_weights",
    ),
    Mutation(
        "a corrupted copy is another each time",
        "benchmarks/corrupt_images.py", "np.random.seed(seed)", "seed",
        "tests/test_corrupt_images.py",
    ),
)  # fmt: skip
