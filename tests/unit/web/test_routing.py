"""The profile and route of a path. Encoded slashes are not separators, and `//` is not `/`."""

from __future__ import annotations

import re
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.interfaces import IStore
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.routing import Router, path_of


def router(*names: str) -> Router:
    return Router([PROFILES[name](cast(IStore, None), Settings()) for name in names])


class PathTests(SynchronousTestCase):
    def test_the_path_of_a_target(self) -> None:
        cases = (
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a?b", "/a"),
            ("/a?b?c", "/a"),
            ("/a?b=/c", "/a"),
            ("/?", "/"),
            ("/a%2Fb%3Fc", "/a%2Fb%3Fc"),
            ("//a", "//a"),
            ("/a//", "/a//"),
            ("/a://b", "/a://b"),
            ("/caf\xc3\xa9", "/caf\xc3\xa9"),
            ("http://host/a", "/a"),
            ("http://host:80/a//b?c", "/a//b"),
            ("HTTPS://host/", "/"),
            ("http://host", "/"),
            ("http://host?a", "/"),
            ("http://host//a", "//a"),
            ("http://u:p@[::1]:80/a", "/a"),
            ("*", "*"),
            ("a", "a"),
            ("", ""),
        )
        for target, path in cases:
            self.assertEqual(path_of(target), path, target)


class TableTests(SynchronousTestCase):
    """Routes of the usual shapes are found in tables, and are those that werkzeug finds."""

    METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "get")

    def test_the_tables_agree_with_werkzeug(self) -> None:
        for name, profile in PROFILES.items():
            found = router(name)
            for rule in profile.app.url_map.iter_rules():
                path = re.sub("<.*?key>", "key", rule.rule)
                for method in self.METHODS:
                    for target in (path, f"{path}?a=b", f"{path}/", f"http://host{path}"):
                        route, key = found.find(method.encode(), target)
                        expected = found.route(method, path_of(target))
                        self.assertEqual(
                            (route.endpoint, route.rule, route.is_urgent, route.error and route.error.code),
                            (
                                expected.endpoint,
                                expected.rule,
                                expected.is_urgent,
                                expected.error and expected.error.code,
                            ),
                        )
                        self.assertIn(key, (None, "key"))
                        self.assertTrue(key is None or route.arguments.keys() == {"key"})

    def test_the_usual_shapes_are_all_in_them(self) -> None:
        for name, profile in PROFILES.items():
            found = router(name)
            self.patch(found, "route", lambda method, path: self.fail(f"{method} {path} is not in a table"))
            for rule in profile.app.url_map.iter_rules():
                if "<" not in rule.rule.rpartition("/")[0]:
                    for method in rule.methods or ():
                        route, _ = found.find(method.encode(), re.sub("<.*key>", "key", rule.rule))
                        self.assertEqual(route.rule, rule.rule)


class RouterTests(SynchronousTestCase):
    def assert_routes(self, router: Router, *cases: tuple[str, str, str, str, dict[str, Any]]) -> None:
        """Each case: method, path, profile, rule, arguments."""
        for method, path, profile, rule, arguments in cases:
            route = router.route(method, path)
            self.assertEqual((route.profile.name, route.rule, route.arguments), (profile, rule, arguments), path)
            self.assertIsNotNone(route.endpoint)
            self.assertIsNone(route.error)

    def assert_refuses(self, router: Router, code: int, *cases: tuple[str, str]) -> None:
        for method, path in cases:
            route = router.route(method, path)
            self.assertIsNone(route.endpoint, (method, path))
            self.assertEqual(route.error and route.error.code, code, (method, path))
            self.assertEqual(route.rule, "")

    def test_a_key_arrives_as_it_was_sent(self) -> None:
        for key in (
            "a",
            "%2F",
            "a%2Fb",
            "a%2fb",
            "%",
            "%zz",
            "a%20b",
            "+",
            "caf\xc3\xa9",
            "a:b_c.d-e",
            ".",
            "..",
            "a;b",
            "a\x00b",
        ):
            self.assert_routes(router("lsfr"), ("GET", f"/kv/{key}", "lsfr", "/kv/<key>", {"key": key}))
            self.assert_routes(router("keys"), ("PUT", f"/keys/{key}", "keys", "/keys/<key>", {"key": key}))

    def test_slashes_are_not_merged(self) -> None:
        self.assert_refuses(
            router("lsfr"),
            404,
            *(
                ("GET", path)
                for path in ("//kv/a", "/kv//a", "/kv/a/", "/kv/a/b", "/kv/a//", "/clear/", "//clear", "/", "//")
            ),
        )
        self.assert_refuses(
            router("transactional"), 404, *(("GET", path) for path in ("/a/", "/a/b", "//a", "/", "//", "/set/"))
        )
        self.assert_refuses(router("keys"), 404, ("GET", "/keys/"), ("GET", "/keys/a/"), ("GET", "//keys"))
        self.assert_refuses(router("history"), 404, ("GET", "/a/history/"), ("GET", "/a//history"), ("GET", "//a"))

    def test_dots_are_no_directories(self) -> None:
        self.assert_routes(router("lsfr"), ("GET", "/kv/..", "lsfr", "/kv/<key>", {"key": ".."}))
        self.assert_refuses(router("lsfr"), 404, ("DELETE", "/kv/../clear"), ("DELETE", "/./clear"))

    def test_targets_that_are_not_paths_are_unknown(self) -> None:
        for name in PROFILES:
            self.assert_refuses(router(name), 404, ("GET", "*"), ("GET", ""), ("GET", "a"), ("OPTIONS", "*"))
            for target in ("*", "", "a", "*?a"):
                route, key = router(name).find(b"GET", target)
                self.assertEqual((route.error and route.error.code, key), (404, None), (name, target))

    def test_a_wrong_method_differs_from_an_unknown_path(self) -> None:
        self.assert_refuses(
            router("lsfr"), 405, ("POST", "/kv/a"), ("GET", "/clear"), ("OPTIONS", "/kv/a"), ("put", "/kv/a")
        )
        self.assert_refuses(router("lsfr"), 404, ("POST", "/nothing"), ("PUT", "/kvx"))
        route = router("lsfr").route("POST", "/kv/a")
        self.assertEqual(set(cast(Any, route.error).valid_methods), {"GET", "HEAD", "PUT", "DELETE"})

    def test_no_path_redirects(self) -> None:
        paths = (
            "/kv",
            "/kv/",
            "/kv//",
            "/keys",
            "/keys/",
            "/health/",
            "/metrics/",
            "/commit/",
            "/a/history/",
            "//",
            "/",
        )
        for name in PROFILES:
            for path in paths:
                for method in ("GET", "PUT", "POST", "DELETE"):
                    error = router(name).route(method, path).error
                    self.assertIn(error and error.code, (None, 404, 405), (name, method, path))

    def test_of_several_profiles_the_first_that_knows_the_path_answers(self) -> None:
        both = router("lsfr", "transactional")
        self.assert_routes(
            both,
            ("GET", "/kv/a", "lsfr", "/kv/<key>", {"key": "a"}),
            ("GET", "/kv", "lsfr", "/kv", {}),
            ("DELETE", "/clear", "lsfr", "/clear", {}),
            ("POST", "/set", "transactional", "/set", {}),
            ("POST", "/commit", "transactional", "/commit", {}),
            ("GET", "/a", "transactional", "/<key>", {"key": "a"}),
            ("GET", "/kva", "transactional", "/<key>", {"key": "kva"}),
        )
        other = router("transactional", "lsfr")
        self.assert_routes(other, ("GET", "/kv", "transactional", "/<key>", {"key": "kv"}))

    def test_the_first_that_knows_the_path_answers_a_wrong_method_too(self) -> None:
        route = router("lsfr", "transactional").route("GET", "/clear")
        self.assertEqual((route.profile.name, route.error and route.error.code), ("lsfr", 405))

    def test_a_path_that_none_knows_is_the_first_one_s(self) -> None:
        for names in (("lsfr", "transactional"), ("transactional", "lsfr"), ("keys",), ("keys", "clstr", "history")):
            for path in ("/a/b/c", "//", "*", "//kv/a"):
                self.assertEqual(router(*names).route("GET", path).profile.name, names[0])
