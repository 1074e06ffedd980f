"""What strangers' tools find at an edge that speaks TLS and HTTP/2.

`certificate FOLDER` makes a certificate for shop.test. `tls PORT` has sslyze look at the edge: its
findings are held against what docs/tls.md says. `http2 PORT` sends what RFC 9113 forbids, frame by
frame (hyperframe and hpack, which share no code with the edge), and sees that each is answered as its
section says. Prints one line for each thing that was seen; ends with 1 when one of them is wrong.
"""

import datetime
import os
import socket
import ssl
import sys

HOST = "shop.test"
FAULTS = []


def see(what, good, found=""):
    print(f"{'ok  ' if good else 'BAD '} {what}{f': {found}' if found else ''}")
    if not good:
        FAULTS.append(what)


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    with open(os.path.join(folder, "shop.pem"), "wb") as out:
        out.write(made.public_bytes(pem))
    kind = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(pem, kind, serialization.NoEncryption())
    descriptor = os.open(os.path.join(folder, "shop.key"), os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(text)


def tls(port):
    from sslyze import (
        Scanner,
        ScanCommand,
        ScanCommandAttemptStatusEnum,
        ServerNetworkConfiguration,
        ServerNetworkLocation,
        ServerScanRequest,
    )

    old = [
        ScanCommand.SSL_2_0_CIPHER_SUITES,
        ScanCommand.SSL_3_0_CIPHER_SUITES,
        ScanCommand.TLS_1_0_CIPHER_SUITES,
        ScanCommand.TLS_1_1_CIPHER_SUITES,
    ]
    new = [ScanCommand.TLS_1_2_CIPHER_SUITES, ScanCommand.TLS_1_3_CIPHER_SUITES]
    others = [
        ScanCommand.TLS_COMPRESSION,
        ScanCommand.TLS_1_3_EARLY_DATA,
        ScanCommand.OPENSSL_CCS_INJECTION,
        ScanCommand.HEARTBLEED,
        ScanCommand.ROBOT,
        ScanCommand.SESSION_RENEGOTIATION,
        ScanCommand.TLS_EXTENDED_MASTER_SECRET,
    ]
    location = ServerNetworkLocation(hostname=HOST, port=port, ip_address="127.0.0.1")
    settings = ServerNetworkConfiguration(tls_server_name_indication=HOST, network_timeout=10)
    scanner = Scanner(concurrent_server_scans_limit=1, per_server_concurrent_connections_limit=4)
    scanner.queue_scans([ServerScanRequest(location, settings, set(old + new + others))])
    (result,) = scanner.get_results()
    see("the scanner reaches the edge", result.scan_result is not None)
    if result.scan_result is None:
        return

    def found(command):
        attempt = getattr(result.scan_result, command.value)
        done = attempt.status == ScanCommandAttemptStatusEnum.COMPLETED
        see(f"{command.value} was looked at", done, "" if done else attempt.error_reason)
        return attempt.result if done else None

    for command in old:
        seen = found(command)
        accepted = [one.cipher_suite.name for one in seen.accepted_cipher_suites] if seen else ["?"]
        see(f"nothing of {command.value}", not accepted, ", ".join(accepted))
    for command in new:
        seen = found(command)
        accepted = [one.cipher_suite.name for one in seen.accepted_cipher_suites] if seen else []
        strong = all(
            ("GCM" in name or "CHACHA20" in name)
            and (command is ScanCommand.TLS_1_3_CIPHER_SUITES or "_ECDHE_" in name)
            for name in accepted
        )
        see(f"{command.value} are strong", accepted and strong, ", ".join(accepted))
    for command, attribute, wanted in [
        (ScanCommand.TLS_COMPRESSION, "supports_compression", False),
        (ScanCommand.TLS_1_3_EARLY_DATA, "supports_early_data", False),
        (ScanCommand.OPENSSL_CCS_INJECTION, "is_vulnerable_to_ccs_injection", False),
        (ScanCommand.HEARTBLEED, "is_vulnerable_to_heartbleed", False),
        (ScanCommand.SESSION_RENEGOTIATION, "is_vulnerable_to_client_renegotiation_dos", False),
        (ScanCommand.TLS_EXTENDED_MASTER_SECRET, "supports_ems_extension", True),
    ]:
        seen = found(command)
        said = getattr(seen, attribute, None)
        see(f"{attribute} is {wanted}", said is wanted, str(said))
    seen = found(ScanCommand.ROBOT)
    said = seen.robot_result.name if seen else "?"
    see("no oracle for RSA", said.startswith("NOT_VULNERABLE"), said)


def connection(port, name=HOST, alpn="h2"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname=name)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Error codes (RFC 9113 7).
PROTOCOL, FLOW, SIZE, COMPRESSION = 1, 3, 6, 9


class Peer:
    """One HTTP/2 connection, its frames written by hand."""

    def __init__(self, port):
        from hpack import Encoder
        from hyperframe.frame import SettingsFrame

        self.socket = connection(port)
        self.encoder = Encoder()
        self.bytes = b""
        self.send(PREFACE + SettingsFrame(0).serialize())

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # It was cut off already; what it said before is still read.

    def block(self, more=(), path="/", method="GET", leave_out=()):
        fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path)]
        fields = [field for field in fields if field[0] not in leave_out]
        return self.encoder.encode(fields + list(more), huffman=False)

    def head(self, stream, block, ends=True, whole=True):
        flags = (1 if ends else 0) | (4 if whole else 0)
        self.frame(1, flags, stream, block)

    def frame(self, kind, flags, stream, payload=b"", length=None):
        length = len(payload) if length is None else length
        head = length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.send(head + payload)

    def outcome(self, stream=1, past_answer=False):
        """`answered STATUS`, `reset CODE`, `away CODE` or `ended`. `past_answer`: the origin may answer
        before the fault comes."""
        from hpack import Decoder

        decoder = Decoder()
        while True:
            frame = self.next()
            if frame is None:
                return ("ended", None)
            kind, _, at, payload = frame
            if kind == 7 and payload[4:8] != bytes(4):
                return ("away", int.from_bytes(payload[4:8], "big"))
            if kind == 3 and at == stream:
                return ("reset", int.from_bytes(payload, "big"))
            if kind == 1:
                fields = dict(decoder.decode(payload))
                if at == stream and not past_answer:
                    return ("answered", int(fields[":status"]))

    def next(self):
        while len(self.bytes) < 9 or len(self.bytes) < 9 + int.from_bytes(self.bytes[:3], "big"):
            try:
                more = self.socket.recv(65536)
            except (OSError, ssl.SSLError):
                more = b""
            if not more:
                return None
            self.bytes += more
        length = int.from_bytes(self.bytes[:3], "big")
        frame, self.bytes = self.bytes[: 9 + length], self.bytes[9 + length :]
        at = int.from_bytes(frame[5:9], "big") & 0x7FFFFFFF
        return (frame[3], frame[4], at, frame[9:])


def http2(port):
    def case(what, act, *expected, stream=1, past_answer=False):
        peer = Peer(port)
        act(peer)
        got = peer.outcome(stream, past_answer)
        see(what, got in expected or got[0] in expected, " ".join(map(str, got)))

    whole = ("answered", 200)
    broken = [("reset", PROTOCOL), ("away", PROTOCOL), "ended"]
    case("a request is answered", lambda p: p.head(1, p.block()), whole)
    case("5.1.1: a stream of even number", lambda p: p.head(2, p.block()), *broken, stream=2)
    case(
        "5.1.1: a stream of lower number",
        lambda p: (p.head(5, p.block(), ends=False), p.head(3, p.block())),
        *broken,
        stream=3,
    )
    case("5.1: data on an idle stream", lambda p: p.frame(0, 1, 1, b"x"), *broken)
    case("5.1: a reset of an idle stream", lambda p: p.frame(3, 0, 1, bytes(4)), *broken)
    case("5.1: a window update of an idle stream", lambda p: p.frame(8, 0, 1, b"\0\0\0\1"), *broken)
    case("4.2: a frame that is too large", lambda p: p.frame(0, 0, 1, bytes(17000)), ("away", SIZE), *broken)
    case("4.3: header compression that is none", lambda p: p.head(1, b"\xff\xff\xff\xff\xff"), ("away", COMPRESSION), *broken)
    case("6.1: data of no stream", lambda p: p.frame(0, 0, 0, b"x"), *broken)
    case("6.1: more padding than data", lambda p: (p.head(1, p.block(method="POST"), ends=False), p.frame(0, 9, 1, b"\x05x")), *broken, past_answer=True)
    case("6.2: headers of no stream", lambda p: p.head(0, p.block()), *broken)
    case("6.4: a reset of no stream", lambda p: p.frame(3, 0, 0, bytes(4)), *broken)
    case("6.4: a reset of wrong length", lambda p: (p.head(1, p.block(), ends=False), p.frame(3, 0, 1, b"\0\0\0")), ("away", SIZE), *broken, past_answer=True)
    case("6.5: settings of a stream", lambda p: p.frame(4, 0, 1), *broken)
    case("6.5: an acknowledgement with content", lambda p: p.frame(4, 1, 0, bytes(6)), ("away", SIZE), *broken)
    case("6.5: settings of wrong length", lambda p: p.frame(4, 0, 0, bytes(5)), ("away", SIZE), *broken)
    case("6.5.2: push is neither on nor off", lambda p: p.frame(4, 0, 0, b"\0\2\0\0\0\2"), *broken)
    case("6.5.2: a window above the largest", lambda p: p.frame(4, 0, 0, b"\0\4\x80\0\0\0"), ("away", FLOW), *broken)
    case("6.5.2: a frame size below the least", lambda p: p.frame(4, 0, 0, b"\0\5\0\0\0\1"), *broken)
    case("6.6: a push from a client", lambda p: p.frame(5, 4, 1, bytes(4) + p.block()), *broken)
    case("6.7: a ping of a stream", lambda p: p.frame(6, 0, 1, bytes(8)), *broken)
    case("6.7: a ping of wrong length", lambda p: p.frame(6, 0, 0, bytes(7)), ("away", SIZE), *broken)
    case("6.8: going away on a stream", lambda p: p.frame(7, 0, 1, bytes(8)), *broken)
    case("6.9: a window update of nothing", lambda p: p.frame(8, 0, 0, bytes(4)), *broken)
    case("6.9: a window update of wrong length", lambda p: p.frame(8, 0, 0, bytes(3)), ("away", SIZE), *broken)
    case("6.9.1: a window that overflows", lambda p: [p.frame(8, 0, 0, b"\x7f\xff\xff\xff") for _ in (1, 2)], ("away", FLOW), *broken)
    case("6.10: a continuation of nothing", lambda p: p.frame(9, 4, 1, b""), *broken)
    case("6.10: headers that another frame breaks", lambda p: (p.head(1, p.block(), whole=False), p.frame(6, 0, 0, bytes(8))), *broken)
    for what, more in [
        ("a connection-specific field", ("connection", "close")),
        ("a framing field of HTTP/1", ("transfer-encoding", "chunked")),
        ("an upgrade", ("upgrade", "h2c")),
        ("TE that is not trailers", ("te", "gzip")),
        ("an upper-case name", ("X-Upper", "1")),
        ("an unknown pseudo-field", (":unknown", "1")),
        ("a pseudo-field of responses", (":status", "200")),
        ("a pseudo-field twice", (":path", "/b")),
    ]:
        case(f"8.2: {what}", lambda p, more=more: p.head(1, p.block([more])), *broken)
    case("8.3: a pseudo-field after others", lambda p: p.head(1, p.block([("x", "1"), (":path", "/")], leave_out=[":path"])), *broken)
    for name in [":method", ":scheme", ":path"]:
        case(f"8.3.1: no {name}", lambda p, name=name: p.head(1, p.block(leave_out=[name])), *broken)
    case("8.3.1: an empty path", lambda p: p.head(1, p.block(path="")), *broken)
    case("8.1.1: a length, and no body", lambda p: p.head(1, p.block([("content-length", "1")])), *broken)
    case("8.1.1: more than the length", lambda p: (p.head(1, p.block([("content-length", "1")], method="POST"), ends=False), p.frame(0, 1, 1, b"xx")), *broken, "reset", past_answer=True)
    case("8.5: CONNECT", lambda p: p.head(1, p.encoder.encode([(":method", "CONNECT"), (":authority", HOST)])), ("answered", 405), *broken)
    case("7.4 of RFC 9110: another host than the connection's", lambda p: p.head(1, p.block([], leave_out=[":authority"]) + p.encoder.encode([("host", "other.test")])), ("answered", 421))
    try:
        connection(port, name="other.test")
        see("a server name of nobody is refused", False)
    except ssl.SSLError as error:
        see("a server name of nobody is refused", "UNRECOGNIZED_NAME" in str(error).upper(), str(error.reason))


if __name__ == "__main__":
    command, operand = sys.argv[1:]
    if command == "certificate":
        certificate(operand)
    else:
        {"tls": tls, "http2": http2}[command](int(operand))
    sys.exit(1 if FAULTS else 0)
