"""Images on their way into batches: reading, views, augmentation, order."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
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
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "images are not turned as their metadata says",
        "mlp_mixer/data/decoding.py",
        "opened.getexif().get(ORIENTATION, 1)",
        "1",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "half-turned images are mirrored",
        "mlp_mixer/data/decoding.py", "orientation in (2, 3, 6, 7)", "orientation in (2, 3, 6)",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "decoders' own kinds of errors are not those of a broken image",
        "mlp_mixer/data/decoding.py", "except Exception as error:  # decoders",
        "except OSError as error:  # decoders",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "images may be four times as large as the limit",
        "mlp_mixer/data/decoding.py", "if h * w > limit:", "if h * w > 4 * limit:",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "Pillow takes files that were cut, if another library wants it",
        "mlp_mixer/data/decoding.py", "LOAD_TRUNCATED_IMAGES = None, False",
        "LOAD_TRUNCATED_IMAGES = None, True",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "Pillow's own limit of pixels holds",
        "mlp_mixer/data/decoding.py", "LOAD_TRUNCATED_IMAGES = None, False",
        "LOAD_TRUNCATED_IMAGES = Image.MAX_IMAGE_PIXELS, False",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "the missing rest of a JPEG is grey",
        "mlp_mixer/data/jpeg.py", "set(image[-1, -1].tolist()) == {128}", "False",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "a preview's end is that of its JPEG",
        "mlp_mixer/data/jpeg.py", "data.rfind(END, header.scan)", "data.rfind(END)",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "12 bits are black, where 16 are not",
        "mlp_mixer/data/depth.py", "2 ** (_number(tags, BITS) or 16) - 1", "65535",
        "tests/data/test_depth.py",
    ),
    Mutation(
        "the range that a TIFF states is ignored",
        "mlp_mixer/data/depth.py", "or 0, _number(tags, LARGEST)", "or 0, None",
        "tests/data/test_depth.py",
    ),
    Mutation(
        "TIFFs whose white is zero are negatives",
        "mlp_mixer/data/depth.py", "255 - levels if", "levels if",
        "tests/data/test_depth.py",
    ),
    Mutation(
        "every guess is told",
        "mlp_mixer/data/depth.py", "if kind not in _warned:", "if True:",
        "tests/data/test_depth.py",
    ),
    Mutation(
        "a transparent grey of few bits is not found",
        "mlp_mixer/data/depth.py", "{2: 85, 4: 17, 16: 1 / 256}", "{16: 1 / 256}",
        "tests/data/test_decoding.py",
    ),
    Mutation(
        "a link that leads nowhere stops a run that skips broken images",
        "mlp_mixer/data/images.py", "nowhere = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)",
        "nowhere = ()",
        "tests/data/test_images.py",
    ),
    Mutation(
        "what is enlarged by area is shifted",
        "mlp_mixer/data/images.py", "np.arange(len(wanted) + 1) * old",
        "np.arange(1, len(wanted) + 2) * old",
        "tests/data/test_images.py",
    ),
    Mutation(
        "a name that is too long is waited for",
        "mlp_mixer/data/examples.py", "if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):",
        "if error.errno == errno.ELOOP:",
        "tests/data/test_pipeline.py -k waiting",
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
        "mlp_mixer/data/in_memory.py",
        "(self.seed, 0, epoch)",
        "(self.seed, 0, 0)",
        "tests/data/test_pipeline.py -k epoch",
    ),
    Mutation(
        "every batch is augmented alike",
        "mlp_mixer/data/in_memory.py",
        "(self.seed, 1, k)",
        "(self.seed, 1, 0)",
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
        "a large source hangs a worker that dies",
        "mlp_mixer/data/crews.py",
        "futures.ProcessPoolExecutor(count, context, _start_worker)",
        "futures.ProcessPoolExecutor(count, context, _start_worker, (bytes(1 << 20),))",
        "tests/data/test_workers.py -k hang",
    ),
    Mutation(
        "a worker process takes one reader's source for another's",
        "mlp_mixer/data/crews.py",
        "_fill_shared, self._load.path, self._number,",
        "_fill_shared, self._load.path, 0,",
        "tests/data/test_workers.py -k share",
    ),
    Mutation(
        "evaluations of a run ignore data.workers",
        "mlp_mixer/evaluation/classification.py", "workers=config.data.workers,", "workers=0,",
        "tests/evaluation/test_evaluators.py -k worker",
    ),
    Mutation(
        "an AutoAugment operation always happens",
        "mlp_mixer/data/autoaugment.py", "if draw < probability:", "if True:",
        "tests/data/test_pillow_augmentations.py",
    ),
    Mutation(
        "AutoAugment turns one way only",
        "mlp_mixer/data/autoaugment.py", "return sign * 30 * share", "return 30 * share",
        "tests/data/test_pillow_augmentations.py",
    ),
    Mutation(
        "timm's strengths are not cut to 10",
        "mlp_mixer/data/timm_randaugment.py",
        "np.clip(rng.normal(magnitude, std), 0, LARGEST)", "rng.normal(magnitude, std)",
        "tests/data/test_pillow_augmentations.py",
    ),
    Mutation(
        "timm's Solarize does less for more",
        "mlp_mixer/data/timm_randaugment.py",
        "return 256 - min(256, int(256 * share))", "return min(256, int(256 * share))",
        "tests/data/test_pillow_augmentations.py",
    ),
    Mutation(
        "the colour jitter leaves the contrast",
        "mlp_mixer/data/augment.py",
        '("Brightness", "Contrast", "Color")', '("Brightness", "Brightness", "Color")',
        "tests/data/test_pillow_augmentations.py",
    ),
    Mutation(
        "the erased part is wider than it may be",
        "mlp_mixer/data/augment.py", "rng.uniform(0.02, 1 / 3)", "rng.uniform(0.02, 1 / 2)",
        "tests/data/test_pillow_augmentations.py",
    ),
)  # fmt: skip
