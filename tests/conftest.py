# SPDX-License-Identifier: Apache-2.0
"""Checks the shapes and types in all annotations of the package while the tests run."""

from jaxtyping import install_import_hook

hook = install_import_hook("ornstein", "beartype.beartype")
