"""Who the server is, and who we are: the pinned key and the proof of identity.

Follows docs/wire.md: "Who the server is", "Handshake".
"""

import datetime
import os

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


class Untrusted(Exception):
    """The server is not the one it should be."""


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def check_server(leaf, chain, pinned):
    """The server's identity key, after all checks but those that TLS makes itself."""
    public = next((c.public_key() for c in chain if isinstance(c.public_key(), Ed25519PublicKey)), None)
    if public is None:
        raise Untrusted("the server's certificates bear no Ed25519 identity")
    if pinned is not None and raw(public) != pinned:
        raise Untrusted(f"the server is {raw(public).hex()}, but {pinned.hex()} is pinned")
    try:
        public.verify(leaf.signature, leaf.tbs_certificate_bytes)
    except InvalidSignature:
        raise Untrusted("the identity key has not signed the server's certificate") from None
    now = datetime.datetime.now(datetime.timezone.utc)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise Untrusted("the server's certificate is not valid now; is the clock right?")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if "ecumene" not in names.get_values_for_type(x509.DNSName):
        raise Untrusted("the server's certificate is not for `ecumene`")
    return raw(public)


def load_identity(path):
    """The Ed25519 key in a PEM file, made on the first visit."""
    if not os.path.exists(path):
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    with open(path, "rb") as file:
        return load_pem_private_key(file.read(), None)


def prove(identity, server_key, nonce):
    signature = identity.sign(b"ecumene/1 hello\0" + server_key + nonce)
    return {"key": raw(identity.public_key()), "signature": signature}
