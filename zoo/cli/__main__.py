"""``python -m omfa.zoo.cli``."""

import sys

from omfa.zoo.cli.main import main

sys.exit(main())
