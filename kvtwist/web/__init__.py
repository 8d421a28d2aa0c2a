"""How bytes become requests and replies."""

from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.front import FrontSite
from kvtwist.web.service import HTTPService

__all__ = ["Dispatcher", "FrontSite", "HTTPService"]
