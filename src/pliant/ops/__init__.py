"""The primitives: tensors in, tensors out; no modules, no state.

``OPERATORS`` is the one table: tests, benchmarks, ``pliant ops`` and the docs iterate over it.
"""

from __future__ import annotations

OPERATORS: dict[str, object] = {}
