"""The HTTP front: reads requests, calls the handlers of profiles, sends responses. Knows no profile."""

from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.front import FrontSite
from kvtwist.web.service import HTTPService

__all__ = ["Dispatcher", "FrontSite", "HTTPService"]
