"""Whether this process is a notebook's."""

import sys


def in_notebook() -> bool:
    """Returns whether code runs in the cells of a notebook (Jupyter, Colab, an editor's)."""
    # What is not imported yet need not be: a kernel has it. Nor does `ipykernel` among the modules
    # say enough: whatever starts kernels imports it, too.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None
