"""Delays forked processes, as a busy machine does. Import it before ``tofu_aio``."""

from __future__ import annotations

import os
import time

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: time.sleep(0.05))
