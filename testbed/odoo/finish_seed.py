#!/usr/bin/env python3
"""Last step of the seed: gives the administrator a password of its own, and opens the pages that a first visitor opens, so
that Odoo's generated assets are part of the seed and a later look at the source writes nothing new."""

import argparse
import pathlib
import re
import sys

from session import OdooError, Session

# 14.0 serves its bundles as attachments: /web/content/<id>-<digest>/web.assets_common.css
ASSET = re.compile(rb"""(?:src|href)=["'](/web/(?:assets/|content/[^"'/]+/[^"'/]*assets)[^"']+)["']""")


def open_page(session, path):
    """Fetches a page and every asset bundle that it names; returns how many."""
    assets = set(ASSET.findall(session.get(path)))
    for asset in assets:
        if not session.get(asset.decode()):
            raise OdooError(f"{asset.decode()} is empty")
    return len(assets)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--password-file", type=pathlib.Path, required=True)
    parser.add_argument("--backend", default="/odoo", help="the web client's page: /web before 18.0")
    arguments = parser.parse_args()
    password = arguments.password_file.read_text().strip()

    session = Session(arguments.url)
    user = session.login(arguments.database, "admin", "admin")
    session.call("res.users", "write", [user], {"password": password})

    session = Session(arguments.url)
    assets = open_page(session, f"/web/login?db={arguments.database}")
    session.login(arguments.database, "admin", password)
    assets += open_page(session, arguments.backend)
    if session.call("lifeboat.testbed.note", "search_count", []) != 1:
        raise OdooError("the record of the testbed's own addon is not there")
    counts = {model: session.call(model, "search_count", []) for model in ("res.partner", "sale.order", "account.move")}
    print(f"seed: admin has its password, {assets} asset bundles opened, {counts}", file=sys.stderr)


if __name__ == "__main__":
    main()
