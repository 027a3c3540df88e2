"""Certificates and keys that a config file names: readable, in time, belonging together. Only reads files."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from config.services import TlsClientSettings

from .sink import PeerAway, Wrong

# Of PEM, also behind words: tools write who a certificate belongs to before it.
_BEGIN = b"-----BEGIN"


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, PEM or DER. Raises PeerAway."""
    data = _data(path, "certificate")
    load = x509.load_pem_x509_certificate if _BEGIN in data else x509.load_der_x509_certificate
    try:
        return load(data)
    except ValueError:
        raise PeerAway(f"{path} holds no certificate, expected PEM or DER") from None


def read_private_key(path: Path) -> PrivateKeyTypes:
    """The key in a file, PEM or DER. Raises PeerAway."""
    data = _data(path, "key")
    try:
        return (load_pem_private_key if _BEGIN in data else load_der_private_key)(data, password=None)
    except TypeError:
        raise PeerAway(f"the key {path} is encrypted, expected one without a passphrase") from None
    except ValueError:
        raise PeerAway(f"{path} holds no private key, expected PEM") from None


def check_in_time(path: Path) -> None:
    """Raises PeerAway when the certificate can't be read or has expired."""
    if why := why_out_of_time(read_certificate(path)):
        raise PeerAway(f"the certificate {path} {why}; nobody would trust it")


def why_out_of_time(certificate: x509.Certificate) -> str | None:
    """None: it is good now."""
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_before_utc > now:
        return f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}"
    return None


def named_uris(path: Path) -> list[str]:
    """Those of its subject's alternative names; none where it has no such names. Raises PeerAway."""
    try:
        names = read_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def wrong_pair(section: str, cert_file: Path, key_file: Path) -> Iterator[Wrong]:
    """What is wrong with a certificate of ours and its key, in the keys `section`.cert_file and key_file."""
    public = None
    try:
        check_in_time(cert_file)
        public = read_certificate(cert_file).public_key()
    except PeerAway as error:
        yield Wrong((section, "cert_file"), str(error))
    try:
        if public not in (None, read_private_key(key_file).public_key()):
            yield Wrong((section, "key_file"), f"{key_file} is not the key of {cert_file}")
    except PeerAway as error:
        yield Wrong((section, "key_file"), str(error))


def wrong_for_client(tls: TlsClientSettings) -> Iterator[Wrong]:
    """What is wrong with what we check a server by, and what we show it."""
    if tls.ca_file is not None:
        try:
            _check_authorities(tls.ca_file)
        except PeerAway as error:
            yield Wrong(("tls", "ca_file"), str(error))
    if tls.cert_file is not None and tls.key_file is not None:
        yield from wrong_pair("tls", tls.cert_file, tls.key_file)


def _check_authorities(path: Path) -> None:
    """One that is good now is enough: bundles keep old ones."""
    data = _data(path, "certificate authority")
    try:
        ssl.create_default_context(cafile=path)
        authorities = x509.load_pem_x509_certificates(data)
    except (ValueError, OSError):  # an SSLError is an OSError
        raise PeerAway(f"{path} holds no certificate, expected PEM") from None
    reasons = [why_out_of_time(authority) for authority in authorities]
    if all(reasons):
        raise PeerAway(f"the certificate authority {path} {reasons[0]}; no server would be trusted")


def _data(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PeerAway(f"the {what} {path} can't be read: {error.strerror}") from None
