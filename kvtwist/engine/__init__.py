"""
The embedded store: a journal, and pages in a DirDBM. It knows no HTTP.

A transaction is applied to memory at once, written to the *journal* with all others that arrived meanwhile, and
answered when that batch is on disk. A *checkpoint* moves what has gathered in memory into *pages* and forgets the
journal up to there. docs/architecture.md draws the whole.
"""

from kvtwist.engine.limits import Limits
from kvtwist.engine.service import StoreService
from kvtwist.engine.store import Store

__all__ = ["Limits", "Store", "StoreService"]
