"""Connections without a port: each is a pair of sockets, one end of which is the server's."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web.client import Agent
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer


class _Ready(Factory):
    """A factory of one protocol, which is there already."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Called for the connection."""
        return self._protocol


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
class _Endpoint:
    """Leads to one server, whatever the URL."""

    def __init__(self, reactor: Any, site: IProtocolFactory) -> None:
        self._reactor = reactor
        self._site = site

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        """See `IAgentEndpointFactory`."""
        endpoint: IStreamClientEndpoint = self
        return endpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """See `IStreamClientEndpoint`."""
        protocol = factory.buildProtocol(UNIXAddress(None))
        assert protocol is not None
        ours, theirs = socket.socketpair()
        with ours, theirs:  # the reactor has copies of both
            for end, end_factory in ((theirs, self._site), (ours, _Ready(protocol))):
                end.setblocking(False)
                self._reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, end_factory)
        return succeed(protocol)


def agent_of(reactor: Any, site: IProtocolFactory) -> IAgent:
    """An agent whose requests go to a site."""
    agent: IAgent = Agent.usingEndpointFactory(reactor, _Endpoint(reactor, site))
    return agent
