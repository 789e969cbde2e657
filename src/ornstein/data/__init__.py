# SPDX-License-Identifier: Apache-2.0
"""Where x_0 comes from: every source becomes a `Split` of two `Dataset`s in raw units."""
