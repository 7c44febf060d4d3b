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


def split_name(text: str) -> tuple[str, str]:
    """Splits [NAME=]WORKDIR; the name is "" if there is none.

    Only what is a data set's name counts as one: a path may have a "=" in it, such as lr=0.1/pets.
    """
    name, equals, workdir = text.partition("=")
    return (name, workdir) if equals and name in SOURCES else ("", text)


def name_of(text: str, source: str, among: dict[str, str] = SOURCES) -> str:
    """Returns the paper's name of the data set that a run is on.

    Args:
        text: [NAME=]WORKDIR, as the user wrote it; NAME takes precedence.
        source: the data source of the run, from which the name follows otherwise.
        among: the possible data sets, and their sources.

    Raises:
        ValueError: the name is not one of these, or the source does not tell it.
    """
    name, _ = split_name(text)
    if not name:
        name = next((name for name, usual in among.items() if usual == source), "")
    if name not in among:
        raise ValueError(
            f"{text}: on which data is it ({source})? Write NAME=WORKDIR with NAME one of "
            f"{', '.join(among)}"
        )
    return name
