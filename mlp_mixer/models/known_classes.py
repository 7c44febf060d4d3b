"""The classes of ImageNet and ImageNet-21k: WordNet ids and readable names, in the order of heads.

Each list is a file beside this one with a line "ID<TAB>NAME" for each class, so that it can also
serve as the classes.tsv of a folder. The name is the first word of the WordNet synset. Ids are
unique, names are not (crane appears twice).

imagenet_classes.tsv is the list of the 1,000 classes of ILSVRC 2012, by id.

imagenet21k_classes.tsv is the list of 21,843 classes of the published checkpoints (BiT's, ViT's and
Mixer's), by id, which the authors named in github.com/google-research/big_transfer/issues/7 as
storage.googleapis.com/bit_models/imagenet21k_wordnet_ids.txt and ..._wordnet_lemmas.txt. It was
taken from timm 1.0.31 (imagenet21k_goog_synsets.txt, imagenet_synset_to_lemma.txt) and checked
against

* a copy of the authors' two files in github.com/MarcLafon/gallop: equal, line by line;
* the two classes without images, n03931044 and n09859684, which Hugging Face's converters for
  models with 21,841 classes remove at 9205 and 15027: they are at those places;
* github.com/abhimanyudubey/GeoYFCC/issues/5, where index 2037 is sea swallow: here, too;
* timm's lists of the release of fall 2011 (21,841 classes) and of 11,821 classes, and its indices
  from this list to those: equal.

It has all of ImageNet's classes except teddy, n04399382, which the release of fall 2011 lacked too
(github.com/microsoft/FocalNet leaves out its place, 850, for this reason).
"""

import functools
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class KnownClasses(NamedTuple):
    """A list of classes by WordNet ids, such as n01440764, and by names, such as tench."""

    ids: tuple[str, ...]
    names: tuple[str, ...]


@functools.cache
def imagenet() -> KnownClasses:
    """Returns the 1,000 classes of ILSVRC 2012."""
    return _read("imagenet_classes.tsv")


@functools.cache
def imagenet21k() -> KnownClasses:
    """Returns the 21,843 classes of the published ImageNet-21k checkpoints."""
    return _read("imagenet21k_classes.tsv")


def _read(name: str) -> KnownClasses:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return KnownClasses(*zip(*(line.split("\t") for line in lines), strict=True))
