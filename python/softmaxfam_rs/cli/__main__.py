"""`python -m softmaxfam_rs.cli`."""

from . import main

main()
