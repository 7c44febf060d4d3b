"""What every experiment has: each field with its default, its unit and what it may be.

An experiment in this folder starts from `base()` and sets what is its own. What is not said to
have a range may be anything of its kind from 0 on; mlp_mixer/training/fields.py refuses the rest.
"""

import ml_collections


def base() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0  # of everything random; up to 2^32 - 1

    # --- the images; see docs/reference/data.md and mlp_mixer/data/augment.py ---
    config.data = ml_collections.ConfigDict()
    config.data.source = "folder:images"  # or wds:PATTERN, hf:NAME, tfds:NAME, digits
    config.data.train_split = "train"  # or a part of it: train[:98%]
    config.data.examples_per_class = 0  # to train on; 0 for all
    config.data.in_memory = False  # decode all once; for small images
    config.data.workers = 0  # processes that load images, of evaluations too; 0 for threads
    config.data.skip_broken = False  # leave out images that cannot be decoded, and name them
    config.image_size = (224, 224)  # height, width in pixels; one number is both
    config.image_channels = 3  # or 1 for grey
    config.augment = ml_collections.ConfigDict()
    config.augment.inception_crop = 0.0  # smallest share of the area that is kept, to 1; 0 for none
    config.augment.random_crop = 0.0  # share of each side that is kept, to 1; 0 for none
    config.augment.rotate = 0.0  # degrees at most, to 180
    config.augment.zoom = 0.0  # the scale is drawn from exp(-zoom) to exp(zoom)
    config.augment.shift = 0.0  # pixels at most
    config.augment.pad_crop = 0  # pixels of padding on each side, out of which it is cut again
    config.augment.flip = False  # left to right, every other image
    config.augment.autoaugment = ""  # a policy that was found for a data set: cifar10
    config.augment.randaugment_layers = 0  # operations; 2 in the paper
    config.augment.randaugment_magnitude = 0.0  # 10 to 20 in the paper, 9 in recipes for timm
    config.augment.randaugment_form = "big_vision"  # the paper's; or timm
    config.augment.randaugment_std = 0.0  # of timm's magnitude; 0.5 in recipes
    config.augment.color_jitter = 0.0  # factors are 1 - color_jitter to 1 + color_jitter; to 1
    config.augment.random_erasing = 0.0  # share of images of which a part becomes noise, to 1

    # --- the model: variant, or widths; see mlp_mixer/models/mixer.py ---
    config.architecture = "mixer"  # or vit, bit: what the paper compares with
    config.model = ml_collections.ConfigDict()
    config.model.stoch_depth = 0.0  # drop probability of the last block, 0 to 1
    config.model.stoch_depth_rescale = False  # divides kept branches by their probability: timm's
    config.model.dropout_rate = 0.0  # of activations in MLPs, 0 to under 1
    config.model.gelu = "tanh"  # or exact, for weights that were trained in timm
    config.dtype = "auto"  # bfloat16 where the device is faster at it, else float32; or one of them
    config.permuted = ml_collections.ConfigDict()  # see mlp_mixer/models/permuted.py
    config.permuted.order = "original"  # of pixels; or patches, pixels
    config.permuted.patch_size = (16, 16)  # of the patches that are shuffled
    config.permuted.seed = 0

    # --- where parameters come from: random, or weights; see docs/reference/recipes.md ---
    config.init_from = ""  # released name, file or workdir, to go on from; random without
    config.init_head = "auto"  # keep it where the classes are the same; or always: new, keep
    # Of a new head, -100 to 0; 0 for the loss's: -ln(classes) for sigmoid, or 0.
    config.init_head_bias = 0.0
    config.init_image_size = ()  # that weights were trained at, for plans: a run reads it from them
    config.init_patch_size = ()  # likewise; () is the run's own
    config.init_resize = "auto"  # to image_size: auto, tile or resample; see weights/resize.py

    # --- the recipe. Of each pair of durations exactly one is not 0, of warmup and drop at most one
    config.batch_size = 4096  # images in each step, over all devices; 1 or more
    config.total_epochs = 0.0
    config.total_steps = 0
    config.optimizer = "adam"  # or momentum, lion, lamb, muon
    config.lr = 0.001  # the peak
    config.decay = "cosine"  # or linear
    config.decay_end = 0.0  # where the decay ends, as a share of the peak, 0 to 1
    config.warmup_epochs = 0.0
    config.warmup_steps = 0
    config.weight_decay = 0.0  # AdamW's: multiplied by the rate; on kernels only
    config.drop_schedule = "constant"  # of a Mixer's dropout and stochastic depth: or early, late
    config.drop_epochs = 0.0  # until they are gone (early, linearly), or begin (late)
    config.drop_steps = 0
    config.layer_decay = 1.0  # the rate's factor from each block to the one before, over 0, to 1
    config.grad_clip = 1.0  # global norm; 0 for none
    # Decay of a moving average of parameters, to under 1; 0 for none. It is evaluated, too, as
    # ema_test/accuracy and the like, and saved beside them, as WORKDIR/ema.npz.
    config.ema = 0.0
    config.loss = "softmax"  # or sigmoid
    config.label_smoothing = 0.0  # share of a target that all classes get, 0 to under 1
    config.mixup = 0.0  # p of Beta(p, p); 0 for none
    config.cutmix = 0.0  # p of Beta(p, p), for CutMix; 0 for none
    config.cutmix_probability = 0.5  # how often CutMix takes the place of mixup, or of nothing
    config.mixup_per_example = False  # of both: drawn for each example, not once for the batch

    # --- SAM and GSAM: gradients at perturbed weights; see mlp_mixer/training/sam.py ---
    config.sam = ml_collections.ConfigDict()
    config.sam.rho_max = 0.0  # length of the perturbation at the peak of lr; 0 for plain training
    config.sam.rho_min = 0.0  # where lr has decayed to its end; linear in lr; at most rho_max
    config.sam.alpha = 0.0  # GSAM's; 0 for SAM, which has rho_min = rho_max
    config.sam.group_size = 64  # images that share a perturbation; must divide batch_size

    # --- distillation: a classifier whose answers are learnt; see mlp_mixer/training/teacher.py ---
    # What init_from may be, with the data's classes and at image_size; "" for none. Labels then
    # tell the accuracy only: loss must be softmax, and label_smoothing 0.
    config.teacher = ""

    # --- how it lies on devices; only sum_dtype changes results. See training/layouts.py ---
    config.layout = "replicated"  # or fsdp, pmap
    config.accum_steps = 0  # parts of a device's rows, in turn; 0 lets the device decide
    config.remat = False  # computes blocks twice to save memory; accum_steps costs less
    config.sum_dtype = "float32"  # in which gradients are summed over devices; or bfloat16

    # --- what is measured and kept ---
    config.evals = ml_collections.ConfigDict()
    config.evals.test = classification("test")
    config.eval_crop = "resmall"  # keeps the aspect; or resize, which does not: data/images.py
    config.eval_crop_fraction = 1.0  # of the resized image that is seen, each side; over 0, to 1
    config.eval_every_epochs = 0.0
    config.eval_every_steps = 0
    config.log_every_steps = 100  # 1 or more
    config.sheet_examples = 500  # test images whose predictions TensorBoard shows; 0 for none
    config.profile_steps = 0  # steps to record for TensorBoard's profile tab, from the 11th on
    config.checkpoint_every_epochs = 0.0
    config.checkpoint_every_steps = 0
    config.keep_checkpoints = 2  # the newest, and one to fall back to; 1 or more
    # A scalar of an evaluation, such as "test/accuracy" or "val/loss": the checkpoint with the best
    # one is kept, too, and every evaluation is of a checkpoint. "" keeps none for that.
    config.keep_best = ""
    config.tracker = ""  # or wandb: gets the config and all scalars, too; see runs/trackers.py
    return config


# Evaluators: add one as config.evals.NAME = common.classification(...). Of each, `enabled` can be
# turned off, `only_at_end` keeps it for the last step (a test set in a strict protocol, a large one
# for few shots), and where source, crop or crop_fraction are empty they are the run's own.


def classification(split: str, source: str = "") -> ml_collections.ConfigDict:
    """An evaluator of accuracy and loss, on a split of a source."""
    return ml_collections.ConfigDict(
        dict(
            type="classification", split=split, source=source, enabled=True, only_at_end=False,
            crop="", crop_fraction=0.0,
        )
    )  # fmt: skip


def fewshot(train_split: str, split: str, source: str = "") -> ml_collections.ConfigDict:
    """An evaluator of features by linear regression from a few examples of each class."""
    return ml_collections.ConfigDict(
        dict(
            type="fewshot", train_split=train_split, split=split, source=source, enabled=True,
            only_at_end=False, crop="resize", crop_fraction=0.0, shots=(5, 10, 25),
        )
    )  # fmt: skip
