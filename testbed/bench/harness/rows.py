"""Text, jsonb and long values beside pgbench's tables, as an Odoo database has them; the same on every run.

A text is a random row of half-sentences, so that it compresses about as text does. The lines are in COPY's text form.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

PHRASES = 32768
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


@dataclass(frozen=True)
class Table:
    """A table and what goes into it."""

    name: str
    define: str
    finish: str
    rows: Iterator[str]


def tables(units: int) -> list[Table]:
    """`units` is thousands of rows; one unit of the three tables together takes about `MEGABYTES_PER_UNIT`."""
    source = random.Random("rows")
    phrases = make_phrases(source)
    return [
        Table(
            "mail_message",
            "(id bigint, create_date timestamptz, author_id int, subject text, body text) WITH (fillfactor = 90)",
            "ALTER TABLE mail_message ADD PRIMARY KEY (id); CREATE INDEX ON mail_message (author_id, create_date)",
            messages(source, phrases, 1000 * units),
        ),
        Table(
            "sale_order_json",
            "(id bigint, partner_id int, data jsonb) WITH (fillfactor = 90)",
            "ALTER TABLE sale_order_json ADD PRIMARY KEY (id); CREATE INDEX ON sale_order_json (partner_id)",
            orders(source, phrases, 1000 * units),
        ),
        Table(
            "document",
            "(id bigint, name text, content text)",
            "ALTER TABLE document ADD PRIMARY KEY (id)",
            documents(source, phrases, 60 * units),
        ),
    ]


MEGABYTES_PER_UNIT = 1.9


def make_phrases(source: random.Random) -> list[str]:
    weights = [1 / (rank + 2) for rank in range(len(LETTERS))]
    words = ["".join(source.choices(LETTERS, weights, k=source.randint(2, 9))) for _ in range(4096)]
    return [" ".join(source.choices(words, k=8)) for _ in range(PHRASES)]


def messages(source: random.Random, phrases: list[str], count: int) -> Iterator[str]:
    for number in range(1, count + 1):
        body = ". ".join(source.choices(phrases, k=source.randint(4, 19)))
        moment = f"2024-{1 + number // 1000 % 12:02}-{1 + number % 28:02} {number % 24:02}:{number % 60:02}:00+00"
        yield f"{number}\t{moment}\t{source.randrange(1024)}\t{source.choice(phrases)}\t{body}\n"


def orders(source: random.Random, phrases: list[str], count: int) -> Iterator[str]:
    for number in range(1, count + 1):
        data = {
            "name": f"S{number:08}",
            "state": source.choice(("draft", "sent", "sale", "done")),
            "amount_total": source.randrange(1 << 20) / 100,
            "note": source.choice(phrases),
            "uuid": f"{source.getrandbits(128):032x}",
            "lines": [
                {"product": source.randrange(4096), "quantity": line, "price": source.randrange(1 << 16) / 100}
                for line in range(source.randint(1, 4))
            ],
        }
        yield f"{number}\t{source.randrange(16384)}\t{json.dumps(data)}\n"


def documents(source: random.Random, phrases: list[str], count: int) -> Iterator[str]:
    """Too long for a page, so kept out of line; half is text, half as random as a signature."""
    for number in range(1, count + 1):
        length = source.randint(100, 355)
        if number % 2:
            content = ". ".join(source.choices(phrases, k=length))
        else:
            content = "".join(hashlib.sha256(b"%d-%d" % (number, part)).hexdigest() for part in range(length))
        yield f"{number}\tdocument {number}\t{content}\n"
