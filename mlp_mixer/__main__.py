"""Makes python -m mlp_mixer COMMAND the same as mlp-mixer COMMAND."""

import sys

from mlp_mixer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
