"""Classes have all that the interfaces promise which they claim to implement."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolNegotiationFactory,
    IPushProducer,
    IReactorFDSet,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from zope.interface.verify import verifyClass

from kvtwist.engine.backup import Backup
from kvtwist.engine.store import Store
from kvtwist.interfaces import IBackup, IBackups, IProfile, IStore
from kvtwist.profiles import PROFILES
from kvtwist.profiles._scan import _Producer
from kvtwist.profiles.admin import Admin
from kvtwist.web.connection import FrontConnection
from kvtwist.web.front import FrontSite
from kvtwist.web.poller import Poller
from kvtwist.web.sockets import SocketEndpoint

IMPLEMENTED = (
    *((IProfile, profile) for profile in (*PROFILES.values(), Admin)),
    *((IStore, Store), (IBackups, Store), (IBackup, Backup)),
    *((IHalfCloseableProtocol, FrontConnection), (IProtocolNegotiationFactory, FrontSite)),
    *((IReactorFDSet, Poller), (IReadDescriptor, Poller), (IStreamServerEndpoint, SocketEndpoint)),
    (IPushProducer, _Producer),
)


@pytest.mark.parametrize(("interface", "implementation"), IMPLEMENTED)
def test_a_class_has_what_its_interface_promises(interface: Any, implementation: type) -> None:
    assert verifyClass(interface, implementation)
