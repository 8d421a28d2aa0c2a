"""
The embedded store: a journal, and pages in a DirDBM. It knows no HTTP.

A transaction is applied to memory at once, written to the *journal* with all others that arrived meanwhile, and
answered when that batch is on disk. A *checkpoint* writes the changes in memory into *pages*, and removes the journal
up to there. docs/architecture.md describes the whole.
"""

from kvtwist.engine.limits import Limits
from kvtwist.engine.service import StoreService
from kvtwist.engine.store import Store

__all__ = ["Limits", "Store", "StoreService"]
