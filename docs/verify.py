#!/usr/bin/env python3
"""A second opinion on a directory of Lifeboat evidence: Python's standard library and openssl 3, nothing of Lifeboat.

    python3 verify.py DIR 'lifeboat-ed25519:…' [--against CHECKPOINT]

Checks that every statement, entry and checkpoint is signed by the key, that every statement is an entry and every entry a
statement, that each checkpoint holds the root of the entries up to it, that the last one covers them all, and that all of them
are of one ledger, which is named; with --against, that the ledger continues a checkpoint that was kept elsewhere. Take the
key, and this program, from somebody you trust and not from the directory. What it does is specified in FORMAT.md of Lifeboat's
evidence crate, RFC 6962, and C2SP's signed-note and tlog-checkpoint. It does not look at time stamps, revoked keys or the
order of times: lifeboat-verify does.
"""
import base64, hashlib, json, os, subprocess, sys, tempfile

LONGEST = 65535  # what is longer is no entry: its leaf is the word void
wrong = []


def sha256(data):
    return hashlib.sha256(data).digest()


def signed_by(key, message, signature):
    """Asks openssl whether this Ed25519 signature fits."""
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        spki = bytes.fromhex("302a300506032b6570032100") + key
        for name, data in (("key", spki), ("message", message), ("signature", signature)):
            with open(path(name), "wb") as file:
                file.write(data)
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", path("key")]
        command += ["-sigfile", path("signature"), "-in", path("message")]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def statement(key, data):
    """A DSSE envelope."""
    envelope = json.loads(data)
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    return any(signed_by(key, message, base64.b64decode(one["sig"], validate=True)) for one in envelope["signatures"])


def note(key, data):
    """The text of a signed note; none if the key has not signed it."""
    text, lines = data.decode().rsplit("\n\n", 1)
    text += "\n"
    for line in lines.removesuffix("\n").split("\n"):
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded, validate=True)
        expected = sha256(name.encode() + b"\n\x01" + key)[:4]
        if dash == "\u2014" and signature[:4] == expected and signed_by(key, text.encode(), signature[4:]):
            return text
    return None


def attempt(what, check, *arguments):
    """A thing that cannot even be read is as wrong as one that is not signed."""
    try:
        answer = check(*arguments)
    except (ValueError, KeyError, TypeError, AttributeError):
        answer = None
    if not answer:
        wrong.append(f"{what}: not signed by the key, or not what belongs there")
    return answer or None


def root(leaves):
    """RFC 6962, section 2.1."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"")
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + root(leaves[:split]) + root(leaves[split:]))


def main(directory, public, *more):
    key = base64.b64decode(public.removeprefix("lifeboat-ed25519:"), validate=True)
    read = lambda *parts: open(os.path.join(directory, *parts), "rb").read()
    names = lambda *parts: sorted(os.listdir(os.path.join(directory, *parts)))
    digests, entered, leaves, sizes, ledgers = {}, {}, [], set(), set()
    for name in (name for name in names() if name.endswith(".dsse.json")):
        digests[name] = hashlib.sha256(read(name)).hexdigest()
        attempt(name, statement, key, read(name))
    for index, name in enumerate(names("ledger", "entries")):
        data = read("ledger", "entries", name)
        leaves.append(sha256(b"\x00" + (data if len(data) <= LONGEST else b"void\n")))
        if int(name) != index:
            wrong.append(f"entry {index}: a gap")
        text = attempt(f"entry {index}", note, key, data)
        entry = json.loads(text) if text else {"index": None}
        ledgers.update([entry["log"]] if text else [])
        if entry["index"] == index:
            entered[entry["statement"]] = entry["sha256"]
    for what in sorted(set(digests) | set(entered)):
        if digests.get(what) != entered.get(what):
            wrong.append(f"{what}: not the same in the directory and in the ledger")
    checkpoints = [("ledger/checkpoints/" + name, read("ledger", "checkpoints", name)) for name in names("ledger", "checkpoints")]
    checkpoints += [(more[1], open(more[1], "rb").read())] if more[:1] == ("--against",) else []
    for name, data in checkpoints:
        text = attempt(name, note, key, data)
        if text:
            origin, size, expected = text.split("\n")[:3]
            sizes.add(int(size))
            ledgers.add(origin)
            if int(size) > len(leaves) or root(leaves[: int(size)]) != base64.b64decode(expected):
                wrong.append(f"{name}: the entries do not give its root: one of them was changed, moved or cut off")
    if not leaves or max(sizes, default=0) < len(leaves):
        wrong.append("no checkpoint covers the last entry")
    if len(ledgers) > 1:
        wrong.append("entries or checkpoints are of more than one ledger")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    counts = f"{len(digests)} statements, {len(leaves)} entries, {len(checkpoints)} checkpoints"
    print(f"ledger {' and '.join(sorted(ledgers))}: {counts}: {'WRONG' if wrong else 'verified'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (3, 5) else __doc__)
