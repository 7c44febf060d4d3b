"""Figures and plans, the configs, and the command line."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
    Mutation(
        "an evaluation of a finished run counts as its training",
        "mlp_mixer/analysis/run_facts.py", "< self.step] or self.starts", "<= self.step]",
        "tests/analysis/test_report.py -k start_to_end",
    ),
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
        "mlp_mixer/analysis/arithmetic.py", "gradients * 3 * forward", "gradients * forward",
        "tests/cli/test_analysis.py -k point",
    ),
    Mutation(
        "SAM takes as much arithmetic as plain training",
        "mlp_mixer/analysis/arithmetic.py", "2 if config.sam.rho_max else 1", "1",
        "tests/cli/test_analysis.py -k sam",
    ),
    Mutation(
        "a transfer's model is the one that its config names",
        "mlp_mixer/analysis/suite.py", "if model != _in_words(module):", "if not module:",
        "tests/analysis/test_suite.py -k transfer",
    ),
    Mutation(
        "a report writes names as HTML",
        "mlp_mixer/analysis/page.py", "return html.escape(str(x))", "return str(x)",
        "tests/analysis/test_report.py -k escaped",
    ),
    Mutation(
        "a report counts the price of one device only",
        "mlp_mixer/analysis/run_facts.py", "sum(span * count for", "sum(span for",
        "tests/analysis/test_report.py -k cost",
    ),
    Mutation(
        "a report draws the trained filters twice",
        "mlp_mixer/analysis/report.py", "filters.choose(run.module, first)",
        "filters.choose(module, params)",
        "tests/analysis/test_report.py -k before",
    ),
    Mutation(
        "labels of a figure may lie on each other",
        "mlp_mixer/analysis/figures.py", "+ 30 * _overlap(boxes, others).sum(1)", "",
        "tests/analysis/test_figures.py -k touch",
    ),
    Mutation(
        "a curve of one point has no mark",
        "mlp_mixer/analysis/curves.py", "if len(points) == 1:", "if not points:",
        "tests/analysis/test_figures.py -k one_point",
    ),
    Mutation(
        "the end of a failed run is not recorded",
        "mlp_mixer/runs/starts.py", "    finally:  #", "    except KeyError:  #",
        "tests/runs/test_starts.py -k failed",
    ),
    Mutation(
        "a sum over devices sends every byte once",
        "mlp_mixer/planning/estimate.py",
        'times = 2 if collective.kind == "all-reduce" else 1', "times = 1",
        "tests/planning/test_plan.py -k sends",
    ),
    Mutation(
        "plans are told when all are made",
        "mlp_mixer/planning/plan.py", "        if tell:\n", "        if False:\n",
        "tests/planning/test_plan.py -k one_by_one",
    ),
    Mutation(
        "several plans are printed without their table",
        "mlp_mixer/cli/plan.py", "if len(plans.estimates) > 1:", "if False:",
        "tests/planning/test_plan.py -k before_each_wait",
    ),
    Mutation(
        "plans are compared and none recommended",
        "mlp_mixer/cli/plan.py", "    if args.compare:\n", "    if args.figure:\n",
        "tests/planning/test_plan.py -k before_each_wait",
    ),
    Mutation(
        "communication costs no time",
        "mlp_mixer/planning/estimate.py",
        "max(self.core_seconds, self.hbm_seconds) + self.waiting_seconds",
        "max(self.core_seconds, self.hbm_seconds)",
        "tests/planning/test_plan.py",
    ),
    Mutation(
        "VTAB's structured tasks begin one too early",
        "mlp_mixer/analysis/transfers.py", "_VTAB[11:]", "_VTAB[10:]",
        "tests/analysis/test_transfers.py",
    ),
    Mutation(
        "the table of sweeps is not printed",
        "mlp_mixer/cli/transfers.py", "    print(output.table(found.summary()))\n",
        "    output.table(found.summary())\n",
        "tests/analysis/test_transfers.py -k avg_5",
    ),
    Mutation(
        "of an unfinished sweep nothing is said",
        "mlp_mixer/cli/transfers.py", "for path in found.unfinished:", "for path in []:",
        "tests/analysis/test_transfers.py -k avg_5",
    ),
    Mutation(
        "the units of a rectangular model are shown in the wrong shape",
        "mlp_mixer/analysis/filters.py", "kernel.T.reshape(-1, *module.grid)",
        "kernel.T.reshape(-1, *module.grid[::-1])",
        "tests/cli/test_analysis.py -k quarter",
    ),
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
        "configs/transfer.py", 
        "config.augment.random_crop = 1.0\n    config.augment.flip = False",
        "config.augment.random_crop = 1.0",
        "tests/test_configs.py",
    ),
    Mutation(
        "a size such as 160x256 is width x height",
        "mlp_mixer/cli/arguments.py", "return int(found[1]), int(found[2] or found[1])",
        "return int(found[2] or found[1]), int(found[1])",
        "tests/inference/test_export.py",
    ),
    Mutation(
        "a user's error ends with status 0",
        "mlp_mixer/cli/main.py",
        '=1 shows where)", file=sys.stderr)\n        return 1',
        '=1 shows where)", file=sys.stderr)\n        return 0',
        "tests/cli/test_evaluate_and_predict.py -k mistake",
    ),
    Mutation(
        "columns of tables are as wide as their headings",
        "mlp_mixer/cli/output.py",
        "widths = [max(map(len, column)) for column",
        "widths = [len(column[0]) for column",
        "tests/cli/test_command_line.py -k table",
    ),
    Mutation(
        "a wrong field of a config ends with status 0",
        "mlp_mixer/cli/main.py",
        "sys.exit(2)",
        "sys.exit(0)",
        "tests/test_train.py -k mistake",
    ),
    Mutation(
        "of arguments that no command knows nothing is said",
        "mlp_mixer/cli/main.py",
        "if argument not in overrides or not takes_config:",
        "if False:",
        "tests/cli/test_command_line.py",
    ),
    Mutation(
        "a model card has the accuracy of the run's end for every checkpoint",
        "mlp_mixer/analysis/model_card.py", "    if is_checkpoint(weights):\n", "    if False:\n",
        "tests/analysis/test_push.py -k own_step",
    ),
    Mutation(
        "a sheet that cannot be drawn ends the run",
        "mlp_mixer/training/steps.py", "except Exception as error:  # even a bug in drawing",
        "except OSError as error:  # even a bug in drawing", "tests/analysis/test_sheet.py",
    ),
    Mutation(
        "a sample is the first examples",
        "mlp_mixer/data/sources.py", "np.arange(count) * len(source) // count", "np.arange(count)",
        "tests/analysis/test_sheet.py",
    ),
)  # fmt: skip
