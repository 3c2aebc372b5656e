#!/usr/bin/env python3
"""Part of the seed: a journal whose entries are secured with a hash, and posted invoices in it, so that Odoo's own
inalterability check has a chain to verify. Safe to repeat: what is there already is left alone. Works from 14.0 to 19.0."""

import argparse
import pathlib
import sys

from session import OdooError, Session

CODE = "LBH"
INVOICES = 4


def ensure_journal(session):
    """The hashed journal, with the account of the journal that sales go to by default."""
    found = session.call("account.journal", "search", [["code", "=", CODE]], limit=1)
    if found:
        return found[0]
    fields = ["default_account_id", "company_id"]
    model = session.call("account.journal", "search_read", [["type", "=", "sale"]], fields, order="id", limit=1)[0]
    values = {"name": "Secured sales", "code": CODE, "type": "sale", "restrict_mode_hash_table": True}
    values["default_account_id"] = model["default_account_id"][0]
    values["company_id"] = model["company_id"][0]
    journal = session.call("account.journal", "create", [values])
    return journal[0] if isinstance(journal, list) else journal


def ensure_invoices(session, journal):
    """Posted one after the other, so that each hash rests on the one before."""
    present = session.call("account.move", "search_count", [["journal_id", "=", journal], ["state", "=", "posted"]])
    partners = session.call("res.partner", "search", [["is_company", "=", True]], order="id", limit=INVOICES)
    for number in range(present, INVOICES):
        line = {"name": f"Secured line {number + 1}", "quantity": number + 1, "price_unit": 125.0}
        values = {"move_type": "out_invoice", "journal_id": journal, "partner_id": partners[number % len(partners)],
                  "invoice_line_ids": [[0, 0, line]]}
        invoice = session.call("account.move", "create", [values])
        session.call("account.move", "action_post", invoice if isinstance(invoice, list) else [invoice])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--password-file", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    session = Session(arguments.url)
    session.login(arguments.database, "admin", arguments.password_file.read_text().strip())
    journal = ensure_journal(session)
    ensure_invoices(session, journal)
    secured = [["journal_id", "=", journal], ["state", "=", "posted"], ["inalterable_hash", "!=", False]]
    count = session.call("account.move", "search_count", secured)
    if count < INVOICES:
        raise OdooError(f"{count} of {INVOICES} invoices in journal {CODE} are secured by a hash")
    print(f"seed: journal {CODE} has {count} secured invoices", file=sys.stderr)


if __name__ == "__main__":
    main()
