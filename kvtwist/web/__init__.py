"""How bytes become requests and replies: twisted.web, made strict where a store on the open network needs it. No dialect."""

from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.service import HTTPService
from kvtwist.web.stock import StoreSite

__all__ = ["Dispatcher", "HTTPService", "StoreSite"]
