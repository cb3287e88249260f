"""`python -m biasgym`."""

from biasgym.cli.app import main

main()
