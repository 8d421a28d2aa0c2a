"""Any requests, cut anywhere, over any delays: each is answered, in order, and the connection is good for one more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.fronts import Fronted, responses
from tests.support.wire import chunked, head, sized
from tests.unit.web.probe import MAX_BODY, Probe, probed

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([4096, 65_535, 65_536, 66_000, 130_000]))
KINDS = ["now", "sized", "chunked", "late", "late sized", "late sized", "large"]


class Polled(Fronted):
    """With a front that watches its connections itself."""

    polled = True


def late(fronted: Fronted, probe: Probe) -> bool:
    """Let the waiting handler go on; returns whether there was one."""
    for key in list(probe.waiting):
        probe.waiting.pop(key).callback(key.encode())
        fronted.net.settle()
        return True
    return False


def planned(data: st.DataObject) -> list[tuple[bytes, bytes]]:
    """Some requests, and the bodies of their answers."""
    plan = []
    for number in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(KINDS))
        body = bytes([65 + number]) * data.draw(SIZES)
        if kind == "now":
            plan.append((head("GET", "/now"), b"now"))
        elif kind == "large":
            plan.append((head("GET", "/large"), b"l" * MAX_BODY))
        elif kind == "sized":
            plan.append((sized("PUT", "/echo", body), body))
        elif kind == "chunked":
            step = data.draw(st.integers(500, 70_000))
            plan.append((chunked("PUT", "/echo", *(body[at : at + step] for at in range(0, len(body), step))), body))
        elif kind == "late":
            plan.append((head("GET", f"/wait/{number}"), b"%d" % number))
        else:
            plan.append((sized("PUT", f"/wait/{number}", body), b"%d" % number))
    return plan * data.draw(st.sampled_from([1, 1, 1, 3]))


class PipelineProperty(SynchronousTestCase):
    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.data(), st.booleans())
    def test_all_are_answered_and_the_connection_goes_on(self, data: st.DataObject, polled: bool) -> None:
        probe = Probe()
        fronted = (Polled if polled else Fronted)([probe])
        peer = fronted.connect()
        plan = planned(data)
        sent = b"".join(request for request, _ in plan)
        peer.take(data.draw(st.sampled_from([None, None, 0, 100_000])))
        cuts = sorted(data.draw(st.one_of(st.just(set()), st.sets(st.integers(0, len(sent)), max_size=8))))
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            peer.send(sent[start:end])
            if data.draw(st.booleans()):
                late(fronted, probe)
        peer.take(None)
        while late(fronted, probe):
            pass
        peer.send(head("GET", "/now"))
        self.assertEqual([answer.body for answer in responses(peer.received)], [*(body for _, body in plan), b"now"])
        self.assertEqual((peer.fate, fronted.memory.held, fronted.net.faults), ("open", 0, []))
        self.assertTrue(peer.reads)


class LateAnswerTests(SynchronousTestCase):
    """What was found: the last request that was read ahead is answered later, and nothing was read after that."""

    def test_it_is_read_again(self) -> None:
        for requests in (
            sized("PUT", "/wait/a", b"1") + sized("PUT", "/wait/b", bytes(66_000)),
            b"".join(sized("PUT", f"/wait/{number}", bytes(256)) for number in range(257)),
        ):
            probe, fronted = probed()
            peer = fronted.ask(requests)
            answered = 0
            while late(fronted, probe):
                answered += 1
            peer.send(head("GET", "/now"))
            self.assertEqual([answer.body for answer in responses(peer.received)][answered:], [b"now"])
            self.assertEqual((len(responses(peer.received)), peer.reads), (answered + 1, True))
