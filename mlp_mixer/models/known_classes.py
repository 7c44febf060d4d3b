"""The classes of ImageNet and ImageNet-21k: WordNet ids and readable names, in the order of heads.

A file beside this one has a line "ID<TAB>NAME" for each class, so that it serves as the classes.tsv
of a folder, too. The name is the first of the WordNet synset's words. Names are not unique (there
are two of crane), ids are.

imagenet_classes.tsv is the list of the 1,000 classes of ILSVRC 2012, by id.

imagenet21k_classes.tsv is the list of 21,843 classes of the published checkpoints (BiT's, ViT's and
Mixer's), by id, which the authors named in github.com/google-research/big_transfer/issues/7 as
storage.googleapis.com/bit_models/imagenet21k_wordnet_ids.txt and ..._wordnet_lemmas.txt. Taken from
timm 1.0.31 (imagenet21k_goog_synsets.txt, imagenet_synset_to_lemma.txt), and compared with

* a copy of the authors' two files in github.com/MarcLafon/gallop: equal, line by line;
* the two classes without images, n03931044 and n09859684, which Hugging Face's converters of models
  with 21,841 classes take out at 9205 and 15027: there they are;
* github.com/abhimanyudubey/GeoYFCC/issues/5, where index 2037 is sea swallow: it is;
* timm's lists of the release of fall 2011 (21,841 classes) and of 11,821 classes, and its indices
  from this list to those: equal.

All of ImageNet's classes are among them but teddy, n04399382, which that release had not either
(github.com/microsoft/FocalNet leaves out its place, 850, for this reason).
"""

import functools
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class KnownClasses(NamedTuple):
    """WordNet ids, such as n01440764, and readable names, such as tench, of a list of classes."""

    ids: tuple[str, ...]
    names: tuple[str, ...]


@functools.cache
def imagenet() -> KnownClasses:
    """The 1,000 classes of ILSVRC 2012."""
    return _read("imagenet_classes.tsv")


@functools.cache
def imagenet21k() -> KnownClasses:
    """The 21,843 classes of the published ImageNet-21k checkpoints."""
    return _read("imagenet21k_classes.tsv")


def _read(name: str) -> KnownClasses:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return KnownClasses(*zip(*(line.split("\t") for line in lines), strict=True))
