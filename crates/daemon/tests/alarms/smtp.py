"""A mail server for tests: STARTTLS and a password are asked for; each letter becomes a file.

usage: smtp.py PORT FOLDER CERTIFICATE KEY
"""

import asyncio, os, ssl, sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

port, folder, certificate, key = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Letters:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        if not session.authenticated:
            return "530 sign in first"
        self.count += 1
        name = os.path.join(folder, f"{os.getpid()}-{self.count}.eml")
        with open(name + ".part", "wb") as letter:
            letter.write(("X-Recipients: %s\r\n" % " ".join(envelope.rcpt_tos)).encode())
            letter.write(envelope.original_content)
        os.rename(name + ".part", name)
        return "250 kept"


def sign_in(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"lifeboat", b"letter-secret")
    return AuthResult(success=good, handled=False)


tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)
controller = Controller(
    Letters(),
    hostname="127.0.0.1",
    port=port,
    tls_context=tls,
    require_starttls=True,
    auth_required=True,
    authenticator=sign_in,
)
controller.start()
print("ready", flush=True)
sys.stdin.read()  # until the test ends
