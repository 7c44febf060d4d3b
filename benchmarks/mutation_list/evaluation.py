"""Evaluation: classification, few-shot, the suite, prediction."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
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
        "mlp_mixer/models/losses.py",
        'jax.nn.sigmoid(logits) if loss == "sigmoid" else ',
        "",
        "tests/cli/test_evaluate_and_predict.py tests/inference/test_export.py",
    ),
    Mutation(
        "without a word about the crop the whole image is seen",
        "mlp_mixer/inference/classifier.py", 'said.get("crop_fraction", 0.875)',
        'said.get("crop_fraction", 1.0)',
        "tests/cli/test_evaluate_and_predict.py",
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
        "mlp_mixer/analysis/suite.py",
        'np.mean([found["ImageNet"], *others.values()])',
        "np.mean([*others.values()])",
        "tests/analysis/test_suite.py -k suite",
    ),
    Mutation(
        "a published number is misprinted",
        "mlp_mixer/analysis/table_3.py", "86.32, 89.14, 95.49", "86.23, 89.14, 95.49",
        "tests/analysis/test_suite.py -k table",
    ),
    Mutation(
        "a broken image ends all predictions",
        "mlp_mixer/inference/classifier.py", "except (BrokenImage, OSError)", "except OSError",
        "tests/cli/test_evaluate_and_predict.py",
    ),
    Mutation(
        "predictions are shown from the least likely on",
        "mlp_mixer/inference/classifier.py",
        'np.argsort(-probabilities, kind="stable")',
        'np.argsort(probabilities, kind="stable")',
        "tests/cli/test_evaluate_and_predict.py",
    ),
    Mutation(
        "errors of one class hide those of others",
        "mlp_mixer/inference/measure.py",
        'return order[np.argsort(rank, kind="stable")][:count]',
        "return order[:count]",
        "tests/inference/test_measure.py",
    ),
    Mutation(
        "rows and columns of a confusion matrix are exchanged",
        "mlp_mixer/inference/measure.py",
        "self.labels.astype(np.int64) * k + self.guesses",
        "self.guesses.astype(np.int64) * k + self.labels",
        "tests/inference/test_measure.py",
    ),
)  # fmt: skip
