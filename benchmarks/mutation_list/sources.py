"""Data sets: folders, splits, class names, TFDS, VTAB."""

from benchmarks.mutation_list.mutation import Mutation

MUTATIONS = (
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
        "splits of different classes are joined",
        "mlp_mixer/data/sources.py", "source.class_names != sources[0].class_names", "False",
        "tests/data/test_tar_source.py -k different_classes",
    ),
    Mutation(
        "val and the test that stands in for it are joined",
        "mlp_mixer/data/sources.py", "asked.setdefault(found, name) != name", "False",
        "tests/data/test_sources.py -k stands_in",
    ),
    Mutation(
        "a copy of a bucket is trusted though its files are gone",
        "mlp_mixer/data/bucket_copy.py", "if is_known and all(", "if is_known or all(",
        "tests/data/test_bucket_copy.py -k is_gone",
    ),
    Mutation(
        "a part of a split begins one example late",
        "mlp_mixer/data/splits.py", "round(number * count / 100)", "int(number * count / 100) + 1",
        "tests/data/test_splits.py",
    ),
    Mutation(
        "classes in another order are numbered the wrong way round",
        "mlp_mixer/models/class_names.py", "labels[:, np.argsort(order)]", "labels[:, order]",
        "tests/models/test_class_names.py",
    ),
    Mutation(
        "VTAB counts objects from 0",
        "mlp_mixer/data/vtab.py", 'return len(objects["size"]) - 3', 'return len(objects["size"])',
        "tests/test_configs.py -k vtab",
    ),
    Mutation(
        "damaged TFRecords are read",
        "mlp_mixer/data/prepare/from_tfrecord.py",
        'if struct.unpack("<I", tail)[0] != masked_crc32c(record):', "if False:",
        "tests/data/test_prepare.py -k damaged",
    ),
    Mutation(
        "a prepared data set is told without its numbers of examples",
        "mlp_mixer/cli/prepare.py", 'f"{split} {count:,}" for', 'f"{split}" for',
        "tests/data/test_prepare.py -k keeps_the_records",
    ),
    Mutation(
        "a prepared data set is told without the name that a config has for it",
        "mlp_mixer/cli/prepare.py", "--config.data.source={made.source}",
        "--config.data.source={made.folder}",
        "tests/data/test_prepare.py -k keeps_the_records",
    ),
    Mutation(
        "fewer examples per class are taken than asked for, without a word",
        "mlp_mixer/data/sources.py", "if len(of_class) < count:", "if not len(of_class):",
        "tests/data/test_sources.py -k few_examples",
    ),
    Mutation(
        "the parts of a source have its digest",
        "mlp_mixer/data/sources.py",
        "fingerprint(self._source.digest(), self._indices)",
        "self._source.digest()",
        "tests/data/test_digest.py",
    ),
    Mutation(
        "file names do not count in a digest",
        "mlp_mixer/data/folders.py",
        "self._labels, *names)",
        "self._labels)",
        "tests/data/test_digest.py",
    ),
    Mutation(
        "links that lead in a circle are followed for ever",
        "mlp_mixer/data/listing.py",
        "way = (*way, os.path.realpath(os.path.dirname(entry.path)))",
        "way = (os.path.realpath(os.path.dirname(entry.path)),)",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "suffixes in capitals are no images",
        "mlp_mixer/data/listing.py", "name.lower().endswith(_SUFFIXES)",
        "name.endswith(_SUFFIXES)",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "a byte order mark is part of the first name",
        "mlp_mixer/data/class_files.py", '(codecs.BOM_UTF8, "utf-8-sig"),', "",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "folders that are numbers are positions although classes are numbers, too",
        "mlp_mixer/data/class_files.py",
        "if all_numbers and not any(map(str.isdecimal, folders)):", "if all_numbers:",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "a class that stands twice in a list is one",
        "mlp_mixer/data/class_files.py", "if name in found:", "if False:",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "empty classes are no error",
        "mlp_mixer/data/folders.py", "if empty and self._folder == _origin(root):", "if False:",
        "tests/data/test_folders.py",
    ),
    Mutation(
        "an older converted data set hides a newer one",
        "mlp_mixer/data/prepared_files.py", "key=lambda b: (b.version, is_array_record(b))",
        "key=lambda b: (is_array_record(b), b.version)",
        "tests/data/test_prepare.py",
    ),
    Mutation(
        "packing goes on with images that were replaced",
        "mlp_mixer/data/prepare/from_source.py", "and noted.read_text() == state", "",
        "tests/data/test_prepare.py",
    ),
    Mutation(
        "other classes of the same number are taken for the model's",
        "mlp_mixer/models/class_names.py",
        "if problem := _differences(have, want, have_is, want_is):", "if problem := None:",
        "tests/models/test_class_names.py",
    ),
    Mutation(
        "the index of tar files is kept though a file has changed",
        "mlp_mixer/data/tar_index.py", 'if str(kept["state"]) != state:', "if False:",
        "tests/data/test_tar_source.py -k index",
    ),
    Mutation(
        "a tar that is cut between two members is read",
        "mlp_mixer/data/tar_index.py", "if any(tail := file.read(END)) or len(tail) < BLOCK:",
        "if any(file.read(END)):",
        "tests/data/test_tar_source.py -k needed",
    ),
    Mutation(
        "tar files of another split are read",
        "mlp_mixer/data/tar_source.py", "if words := _WORD.findall(file.stem.lower()):",
        "if words := []:",
        "tests/data/test_tar_source.py -k split",
    ),
    Mutation(
        "an Arrow file is read at the row before",
        "mlp_mixer/data/hub_source.py", "index - int(self._firsts[number])",
        "max(index - int(self._firsts[number]) - 1, 0)",
        "tests/data/test_hub_source.py -k folder_gives",
    ),
    Mutation(
        "labels of -1 are taken for classes",
        "mlp_mixer/data/hub_source.py", "np.flatnonzero((labels < 0) | (labels",
        "np.flatnonzero((labels < -1) | (labels",
        "tests/data/test_hub_source.py -k refused",
    ),
)  # fmt: skip
