"""
One module for each profile: Klein routes that turn each request into a transaction on an `IStore`. No I/O, no engine.

Begin with `lsfr`, the smallest. Modules with an underscore are shared by several profiles.
"""

from __future__ import annotations

from kvtwist.profiles._settings import Settings
from kvtwist.profiles.clstr import Clstr
from kvtwist.profiles.history import History
from kvtwist.profiles.keys import Keys
from kvtwist.profiles.lsfr import Lsfr
from kvtwist.profiles.native import Native
from kvtwist.profiles.transactional import Transactional

PROFILES = {profile.name: profile for profile in (Transactional, History, Lsfr, Clstr, Keys, Native)}
"""Every profile, by its name."""

__all__ = ["PROFILES", "Settings"]
