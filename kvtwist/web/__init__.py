"""How bytes become requests and replies."""

from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.front import FrontSite
from kvtwist.web.service import HTTPService
from kvtwist.web.stock import StoreSite

SITES: dict[str, type[FrontSite] | type[StoreSite]] = {"own": FrontSite, "stock": StoreSite}
"""The HTTP fronts, by what `--http` calls them."""

__all__ = ["SITES", "Dispatcher", "FrontSite", "HTTPService"]
