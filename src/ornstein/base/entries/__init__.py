# SPDX-License-Identifier: Apache-2.0
"""Every part that a recipe can name, by the room it belongs to."""

from ornstein.base.entries import data, distillation, models, objectives, sampling, schedules

ENTRIES = (*schedules.ENTRIES, *models.ENTRIES, *objectives.ENTRIES, *distillation.ENTRIES, *sampling.ENTRIES, *data.ENTRIES)
