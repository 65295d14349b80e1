"""`python -m tinynas`."""

from tinynas.cli import main

main()
