#!/usr/bin/env python3
"""Writes to Odoo through its own RPC, as users do, at a chosen rate: partners, confirmed sale orders, posted customer
invoices, and attachments of mixed sizes (1 KB to 5 MB, half of them text, half incompressible).

The schedule is open: operation n is due at n / rate, whatever the earlier ones take. What could not be kept up with is
reported as `late` and never as done. At the end every record is looked up again. Exit status 1 on any error.
"""

import argparse
import base64
import collections
import json
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "odoo"))
from session import OdooError, Session  # noqa: E402

SMALLEST, LARGEST = 1_000, 5_000_000
LATE_SECONDS = 2.0
# Shares of the operations; the model is what each one creates.
MIX = {"partner": 30, "order": 25, "invoice": 15, "attachment": 30}
MODEL = {"partner": "res.partner", "order": "sale.order", "invoice": "account.move", "attachment": "ir.attachment"}
WORDS = "keel hull mast sail rudder anchor harbour tide wind storm buoy davit oar ration flare beacon crew captain".split()


class Writer:
    """One user: a session and what it needs to make documents."""

    def __init__(self, arguments, password, seed):
        self.session = Session(arguments.url)
        self.session.login(arguments.database, arguments.login, password)
        self.random = random.Random(seed)
        call = self.session.call
        self.products = call("product.product", "search", [["sale_ok", "=", True]], limit=50)
        # Our own companies are no customers: goods for them go through a transit location that has no rule.
        own = [company["partner_id"][0] for company in call("res.company", "search_read", [], ["partner_id"])]
        self.partners = call("res.partner", "search", [["is_company", "=", True], ["id", "not in", own]], limit=50)
        if not self.products or not self.partners:
            raise OdooError("no products or no companies to write documents about: is this the demo database?")

    def partner(self):
        number = self.random.randrange(10**9)
        values = {"name": f"Load {number}", "email": f"load{number}@example.com", "city": self.random.choice(WORDS)}
        return self.session.call("res.partner", "create", [values])[0], 0

    def lines(self, quantity_field, price_field):
        line = lambda: (0, 0, {  # noqa: E731
            "product_id": self.random.choice(self.products),
            quantity_field: self.random.randint(1, 9),
            price_field: round(self.random.uniform(1, 500), 2),
        })
        return [line() for _ in range(self.random.randint(1, 5))]

    def order(self):
        values = {"partner_id": self.random.choice(self.partners), "order_line": self.lines("product_uom_qty", "price_unit")}
        order = self.session.call("sale.order", "create", [values])[0]
        self.session.call("sale.order", "action_confirm", [order])
        return order, 0

    def invoice(self):
        values = {
            "move_type": "out_invoice",
            "partner_id": self.random.choice(self.partners),
            "invoice_line_ids": self.lines("quantity", "price_unit"),
        }
        invoice = self.session.call("account.move", "create", [values])[0]
        self.session.call("account.move", "action_post", [invoice])
        return invoice, 0

    def content(self):
        # Sizes spread evenly over the magnitudes, as documents are: many small ones, some scans.
        size = int(SMALLEST * (LARGEST / SMALLEST) ** self.random.random())
        if self.random.random() < 0.5:
            return "bin", self.random.randbytes(size)
        paragraph = " ".join(self.random.choices(WORDS, k=400)) + f" {self.random.random()}\n"
        return "txt", (paragraph * (size // len(paragraph) + 1))[:size].encode()

    def attachment(self):
        kind, content = self.content()
        values = {
            "name": f"load-{self.random.randrange(10**9)}.{kind}",
            "datas": base64.b64encode(content).decode(),
            "res_model": "res.partner",
            "res_id": self.random.choice(self.partners),
        }
        return self.session.call("ir.attachment", "create", [values])[0], len(content)


class Load:
    """The shared schedule and what came of it."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.lock = threading.Lock()
        self.total = int(arguments.rate * arguments.seconds)
        self.next = 0
        self.created = collections.defaultdict(list)
        self.bytes = 0
        self.late = 0
        self.errors = []
        mix = {kind: MIX[kind] for kind in arguments.kinds.split(",")}
        self.kinds = random.Random(arguments.seed).choices(list(mix), weights=list(mix.values()), k=self.total)
        self.start = None

    def take(self):
        """The next operation and when it is due, or None when the schedule or the time is over."""
        with self.lock:
            number = self.next
            over = time.monotonic() > self.start + self.arguments.seconds
            if number >= self.total or over or len(self.errors) >= self.arguments.max_errors:
                return None
            self.next += 1
        return self.kinds[number], self.start + number / self.arguments.rate

    def run(self, writer):
        while (operation := self.take()) is not None:
            kind, due = operation
            time.sleep(max(0.0, due - time.monotonic()))
            late = time.monotonic() - due > LATE_SECONDS
            try:
                identifier, size = getattr(writer, kind)()
            except (OdooError, OSError) as error:
                with self.lock:
                    self.errors.append(f"{kind}: {error}")
                continue
            with self.lock:
                self.created[kind].append(identifier)
                self.bytes += size
                self.late += late

    def look_up(self, writer):
        """Everything that was created must be found again."""
        for kind, identifiers in self.created.items():
            domain = [["id", "in", identifiers]]
            if kind == "order":
                domain.append(["state", "=", "sale"])
            if kind == "invoice":
                domain.append(["state", "=", "posted"])
            found = writer.session.call(MODEL[kind], "search_count", domain)
            if found != len(identifiers):
                self.errors.append(f"{kind}: {len(identifiers)} created, {found} found again")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:58069")
    parser.add_argument("--database", default="demo")
    parser.add_argument("--login", default="admin")
    parser.add_argument("--password-file", type=pathlib.Path, required=True)
    parser.add_argument("--rate", type=float, default=2.0, help="operations per second (default 2)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--workers", type=int, default=4, help="sessions at the same time (default 4)")
    parser.add_argument("--seed", type=int, default=1, help="of the random choices (default 1)")
    parser.add_argument("--kinds", default=",".join(MIX), help="what to write, separated by commas (default: all)")
    parser.add_argument("--max-errors", type=int, default=10, help="give up after so many (default 10)")
    arguments = parser.parse_args()
    unknown = set(arguments.kinds.split(",")) - set(MIX)
    if unknown:
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}; there are {', '.join(MIX)}")
    if arguments.rate <= 0 or arguments.seconds <= 0 or arguments.workers < 1:
        parser.error("rate, seconds and workers must be positive")
    return arguments


def main():
    arguments = parse()
    password = arguments.password_file.read_text().strip()
    load = Load(arguments)
    # Contents differ from run to run, or Odoo would store them once: its filestore is addressed by content.
    writers = [Writer(arguments, password, f"{arguments.seed}/{number}/{time.time_ns()}") for number in range(arguments.workers)]
    load.start = time.monotonic()
    threads = [threading.Thread(target=load.run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - load.start
    load.look_up(writers[0])

    done = sum(len(identifiers) for identifiers in load.created.values())
    report = {
        "seconds": round(elapsed, 1),
        "planned": load.total,
        "done": done,
        "rate": round(done / elapsed, 2),
        "late": load.late,
        "created": {kind: len(load.created[kind]) for kind in MIX},
        "attachment_bytes": load.bytes,
        "errors": len(load.errors),
    }
    print(json.dumps(report))
    for error in load.errors[:10]:
        print(f"odoo_load: {error}", file=sys.stderr)
    if not done and not load.errors:
        print("odoo_load: nothing was written: rate × seconds is below one operation", file=sys.stderr)
    sys.exit(1 if load.errors or not done else 0)


if __name__ == "__main__":
    main()
