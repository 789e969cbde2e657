# SPDX-License-Identifier: Apache-2.0
"""What a report page is made of; `run/report.py` puts it together.

`story` and `sources` read the run folder; `shown`, `noticed` and `measured` turn that into sections; `document`,
`markup`, `style.css` and `scales` serve them and the plots.
"""
