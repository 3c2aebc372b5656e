"""A logged-in session with Odoo over its own JSON-RPC, as a browser holds one. Standard library alone."""

import http.cookiejar
import json
import urllib.request


class OdooError(Exception):
    """Odoo answered with an error."""


class Session:
    def __init__(self, url, timeout=60):
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, path):
        with self.opener.open(self.url + path, timeout=self.timeout) as response:
            return response.read()

    def post(self, path, params):
        body = json.dumps({"jsonrpc": "2.0", "method": "call", "id": 1, "params": params}).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with self.opener.open(request, timeout=self.timeout) as response:
            answer = json.load(response)
        if "error" in answer:
            data = answer["error"].get("data", {})
            raise OdooError(f"{path}: {data.get('name', '')}: {data.get('message') or answer['error'].get('message')}")
        return answer.get("result")

    def login(self, database, login, password):
        """Logs in through the session endpoint; returns the user id."""
        answer = self.post("/web/session/authenticate", {"db": database, "login": login, "password": password})
        if not answer or not answer.get("uid"):
            raise OdooError(f"login as {login} to {database} refused")
        return answer["uid"]

    def call(self, model, method, *arguments, **keywords):
        params = {"model": model, "method": method, "args": list(arguments), "kwargs": keywords}
        return self.post(f"/web/dataset/call_kw/{model}/{method}", params)
