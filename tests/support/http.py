"""A visitor of a site that a real server serves: cookies, forms, Django's login."""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit


class LoginFailedError(Exception):
    """The login form came back instead of a redirect."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Visitor:
    """Keeps cookies over its requests; each request is a connection of its own.

    `url` is a server's address without a slash at its end. Redirects are not followed, unless
    `get(…, follow=True)`.
    """

    def __init__(self, url: str, *, timeout: float = 20) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or 80
        self.timeout = timeout
        self.cookies: dict[str, str] = {}

    @property
    def cookie_header(self) -> dict[str, str]:
        """The header that makes another connection this visitor's: `SSEReader(…, headers=…)`."""
        if not self.cookies:
            return {}
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; the answer's cookies are kept. Raises OSError, http.client.HTTPException."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body, {**self.cookie_header, **(headers or {})})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lowered, content)

    def get(
        self, path: str, *, follow: bool = False, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A page; with `follow`, the one that up to five redirects lead to."""
        answer = self.request("GET", path, headers=headers)
        for _ in range(5):
            if not follow or "location" not in answer.headers:
                break
            path = self._path_of(urljoin(path, answer.headers["location"]))
            answer = self.request("GET", path, headers=headers)
        return answer

    def post(
        self,
        path: str,
        data: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A form, with the CSRF token this visitor has been given. Values may be lists."""
        form_headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": self.url,
            **({"X-CSRFToken": self.cookies["csrftoken"]} if "csrftoken" in self.cookies else {}),
            **(headers or {}),
        }
        return self.request("POST", path, urlencode(data or {}, doseq=True).encode(), form_headers)

    def log_in(self, username: str, password: str, path: str = "/accounts/login/") -> Answer:
        """Through the form, as a person does. Raises LoginFailedError."""
        page = self.get(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        if page.status != 200 or token is None:
            raise LoginFailedError(f"no login form at {path}: {page.status}\n{page.text[:500]}")
        form = {"username": username, "password": password, "csrfmiddlewaretoken": token[1]}
        answer = self.post(path, form)
        if answer.status != 302 or "sessionid" not in self.cookies:
            raise LoginFailedError(f"{username}: {answer.status}\n{answer.text[:2000]}")
        return answer

    def log_out(self, path: str = "/accounts/logout/") -> Answer:
        """Django's own logout takes a POST."""
        return self.post(path)

    @staticmethod
    def _path_of(location: str) -> str:
        parts = urlsplit(location)
        return parts.path + (f"?{parts.query}" if parts.query else "")
