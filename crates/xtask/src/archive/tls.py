"""What object storage over TLS needs, made for one test.

tls.py make FOLDER: an authority of its own (`ca.pem`), and the certificate (`server.pem`, `server.key`) of 127.0.0.1
that it has signed.

tls.py bucket FOLDER URL: makes a bucket, over TLS.
"""

import datetime
import ipaddress
import ssl
import sys
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def begun(subject, issuer, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
    )


def make(folder):
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = begun("a test's authority", "a test's authority", authority)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = begun("a test's storage", "a test's authority", key)
    server = server.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    for certificate, file in ((ca, "ca.pem"), (server, "server.pem")):
        signed = certificate.sign(authority, hashes.SHA256())
        (folder / file).write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(private)


def bucket(folder, url):
    trusted = ssl.create_default_context(cafile=folder / "ca.pem")
    urllib.request.urlopen(urllib.request.Request(url, method="PUT"), context=trusted).read()


if sys.argv[1] == "make":
    make(Path(sys.argv[2]))
else:
    bucket(Path(sys.argv[2]), sys.argv[3])
