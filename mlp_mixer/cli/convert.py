"""Converts weights to another file: layout, image size, dtype, with or without the head.

    mlp-mixer convert imagenet21k/Mixer-B_16 b16-448.npz --image-size 448 --drop-head
    mlp-mixer convert runs/mine mine.safetensors

SRC is anything that mlp_mixer.load reads. Arrays have the published names (or those from before
Linen) in a .npz file, and timm's in a .safetensors file. The result is read back and compared
before it gets its final name, and records where it came from.
"""

import argparse

from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_size_arguments
from mlp_mixer.models.gelu import FORMS as GELUS
from mlp_mixer.runtime.storage import as_path
from mlp_mixer.weights import naming
from mlp_mixer.weights.convert import DTYPES, convert, default_layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="file, address, short name, hf://USER/NAME, workdir"
    )
    parser.add_argument("destination", metavar="DST", help="file ending in .npz or .safetensors")
    add_size_arguments(parser)
    parser.add_argument("--layout", choices=naming.LAYOUTS, help="names of the arrays")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--drop-head", action="store_true", help="leave the class head out")
    parser.add_argument("--gelu", choices=GELUS, help="needed if the source does not tell")


def main(args: argparse.Namespace) -> None:
    module, changes, rows = convert(
        args.source,
        args.destination,
        image_size=args.image_size,
        patch_size=args.patch_size,
        resize=args.resize,
        layout=args.layout,
        dtype=args.dtype,
        drop_head=args.drop_head,
        gelu=args.gelu,
    )
    if rows:
        print(output.table([("arrays", "in the source", "in the result"), *rows]) + "\n")
    print(f"{args.destination} is written, read back and equal: {'; '.join(changes)}")
    timm = (args.layout or default_layout(as_path(args.destination))) == "timm"
    if timm and module.gelu == "tanh":
        print("timm computes the exact GELU by default; for these weights give its create_model "
              "act_layer=functools.partial(torch.nn.GELU, approximate='tanh')")  # fmt: skip
    elif not timm and module.gelu == "exact":
        print("other readers of .npz files compute the tanh GELU; these weights use the exact one")
