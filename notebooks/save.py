"""Executes the notebooks of this folder from top to bottom, and saves them with their outputs.

    python -m notebooks.save [NAME...]

Without names it takes all of them. Where JAX has only a CPU, set JAX_PLATFORMS=cpu. What is saved
beside the outputs is the same on every machine: no times, no versions, but a digest of the source
that the outputs come from.

The project has no public address yet: OWNER/REPO stands for it, here, in README.md and in
docs/guides/. When it has one, replace that everywhere, delete the sentences that say so, and
execute the notebooks once more.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
NAMES = ("quick_start", "fine_tune", "pretrain_and_study")
# Colab opens a notebook with a GPU, if its user has not chosen something else.
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TIMEOUT = 3600  # seconds for a cell


def read(name: str) -> NotebookNode:
    """Reads a notebook of this folder by its name, without the .ipynb."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def client(notebook: NotebookNode, folder: Path) -> NotebookClient:
    """Returns what executes a notebook with this Python, in a folder for what it writes."""
    notebook.metadata = NotebookNode(METADATA)
    return NotebookClient(
        notebook,
        timeout=TIMEOUT,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )


def environment() -> dict[str, str]:
    """Returns the environment in which a notebook finds this clone of mlp_mixer."""
    path = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
    # Of a library's progress bar that we do not show; Colab and JupyterLab have what it misses.
    quiet = "ignore:IProgress not found"
    # Without a backend of this process's, which would take the pictures out of the cells.
    own = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return own | {"PYTHONPATH": path, "PYTHONWARNINGS": quiet}


def digest(notebook: NotebookNode) -> str:
    """Returns a digest of what was executed: the source of all cells of code."""
    source = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(source.encode()).hexdigest()


def save(name: str, notebook: NotebookNode) -> None:
    """Writes an executed notebook, with nothing but its source and its outputs."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        outputs = []
        for output in cell.get("outputs", []):
            before = outputs[-1] if outputs else {}
            if output.output_type == "stream" and before.get("name") == output.name:
                before.text += output.text  # as one, however the kernel happened to cut it
            else:
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    notebook.metadata = NotebookNode(METADATA | {"source_sha256": digest(notebook)})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, indent=1, sort_keys=True)
    (FOLDER / f"{name}.ipynb").write_text(f"{text}\n")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    args = parser.parse_args(arguments)
    for name in args.names:
        notebook = read(name)
        with tempfile.TemporaryDirectory() as folder:
            client(notebook, Path(folder)).execute(env=environment())
        save(name, notebook)
        print(f"{name}: {(FOLDER / f'{name}.ipynb').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
