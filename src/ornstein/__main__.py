# SPDX-License-Identifier: Apache-2.0
"""`python -m ornstein` is the command `ornstein`."""

from ornstein.cli.main import main

main()
