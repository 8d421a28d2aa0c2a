"""Errors that handlers raise, as responses."""

from __future__ import annotations

from typing import Any, cast

from klein import Response
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    ServiceUnavailable,
)

from kvtwist.klein_apps import error_response
from kvtwist.model import NoRoom, StoreDamaged, StoreUnavailable, TooMuchToRead
from kvtwist.profiles._app import ProfileApp, answer_errors
from kvtwist.profiles._reply import json_error


class Own(Exception):
    """An error for which the profile has a status of its own."""


class Profile:
    """A profile whose errors are JSON."""

    app = ProfileApp()


answer_errors(Profile.app, "application/json", json_error, lambda error: 418 if isinstance(error, Own) else None)


class ErrorTests(SynchronousTestCase):
    def answer(self, error: Exception) -> Response:
        """The response to an error."""
        found: Any = error_response(Profile().app, cast(Any, None), error)
        return cast(Response, found)

    def test_each_error_has_its_status_message_and_headers(self) -> None:
        retry = {"Retry-After": "1"}
        for error, code, message, headers in (
            (BadRequest("the key is empty"), 400, "the key is empty", {}),
            (BadRequest(), 400, "bad request", {}),
            (NotFound(), 404, "not found", {}),
            (MethodNotAllowed(["PUT", "GET"]), 405, "method not allowed", {"Allow": "GET, PUT"}),
            (PreconditionFailed(), 412, "precondition failed", {}),
            (RequestEntityTooLarge(), 413, "value too large", {}),
            (RequestEntityTooLarge("too many keys"), 413, "too many keys", {}),
            (
                RequestedRangeNotSatisfiable(length=9),
                416,
                "the value has no such range",
                {"Content-Range": "bytes */9"},
            ),
            (ServiceUnavailable(), 503, "service unavailable", retry),
            (StoreUnavailable("read-only"), 503, "read-only", retry),
            (NoRoom("no space"), 507, "no space", {}),
            (TooMuchToRead("too much"), 413, "too much; read less in one request", {}),
            (StoreDamaged("/srv/kv/pages/1: damaged"), 503, "the stored data cannot be read", {}),
        ):
            with self.subTest(error=error):
                answer = self.answer(error)
                self.assertEqual((answer.code, answer.body), (code, json_error(code, message)))
                self.assertEqual(dict(answer.headers), {**headers, "Content-Type": "application/json"})

    def test_a_bug_is_500_and_is_logged_with_its_traceback(self) -> None:
        answer = self.answer(ZeroDivisionError("secret"))
        self.assertEqual((answer.code, answer.body), (500, b'{"error":"internal server error"}'))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_profile_may_have_a_status_of_its_own(self) -> None:
        self.assertEqual(self.answer(Own()).code, 418)
        self.assertEqual(len(self.flushLoggedErrors(Own)), 1)
