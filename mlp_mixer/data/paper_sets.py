"""The data sets that the paper transfers to, by the names of its tables."""

from mlp_mixer.data import vtab

# The mean over these five is "Avg 5".
AVG_5 = {
    "ImageNet": "tfds:imagenet2012",
    "CIFAR-10": "tfds:cifar10",
    "CIFAR-100": "tfds:cifar100",
    "Pets": "tfds:oxford_iiit_pet",
    "Flowers": "tfds:oxford_flowers102",
}
SOURCES = AVG_5 | {task: f"vtab:{task}" for task in vtab.TASKS}


def name_of(text: str, source: str, among: dict[str, str] = SOURCES) -> str:
    """Returns on which of the paper's data sets a run is, as its [NAME=]WORKDIR or its source says.

    Args:
        text: as the user wrote it.
        source: the data source of the run.
        among: the data sets that it may be on, and their sources.

    Raises:
        ValueError: neither is a name.
    """
    name, equals, _ = text.rpartition("=")
    if not equals:
        name = next((name for name, usual in among.items() if usual == source), "")
    if name not in among:
        raise ValueError(
            f"{text}: on which data is it ({source})? Write NAME=WORKDIR with NAME one of "
            f"{', '.join(among)}"
        )
    return name
