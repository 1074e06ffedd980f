# Speaks TLS for the clients of a script. Each connection begins with a line of JSON: where to, for which
# viewer, with which server name, version and certificate, and whether the session that this viewer had last
# is offered, at whichever server it was. Then bytes go through as they are; or, with "http2", one request is
# sent as frames, whatever is in it, and what comes back goes through as it comes; or, when "translated",
# requests of HTTP/1.1 go as streams of HTTP/2, at once when they come at once, and the answers come back as
# HTTP/1.1, in the order of their requests. Nothing is left out of an answer.
#
# Argument: the folder of the certificates. Prints the port on which it listens.
import json
import select
import socket
import ssl
import sys
import threading

FOLDER = sys.argv[1]
PATIENCE_S = 8
# How long after the last byte of an HTTP/2 exchange it is taken to be over.
SILENCE_S = 0.4

contexts = {}
sessions = {}
lock = threading.Lock()


def context_of(ask):
    # Sessions belong to a context, so a viewer keeps one for each way in which he speaks.
    speaks_http2 = bool(ask["http2"] or ask["translated"])
    key = (ask["viewer"], ask["certificate"], ask["tls12"], speaks_http2)
    with lock:
        if key not in contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if ask["tls12"]:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            if ask["certificate"]:
                context.load_cert_chain(f"{FOLDER}/member.pem", f"{FOLDER}/member.key")
            context.set_alpn_protocols(["h2"] if speaks_http2 else ["http/1.1"])
            contexts[key] = context
        return key, contexts[key]


def connected(ask):
    key, context = context_of(ask)
    plain = socket.create_connection(tuple(ask["to"]), timeout=PATIENCE_S, source_address=(ask["from"], 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    session = sessions.get(key) if ask["resumes"] else None
    return key, context.wrap_socket(plain, server_hostname=ask["name"], session=session)


def read(tls, key, wait_s):
    """What comes within the time; None when nothing does, b"" at the end."""
    if not tls.pending() and not select.select([tls], [], [], wait_s)[0]:
        return None
    tls.settimeout(0.0)
    try:
        data = tls.recv(65536)
    except ssl.SSLWantReadError:
        # A record without data, such as a ticket.
        return None
    finally:
        tls.settimeout(PATIENCE_S)
    # Where there are tickets, they have come before the first answer.
    if tls.session is not None:
        sessions[key] = tls.session
    return data


def pass_through(client, tls, key):
    while True:
        ready, _, _ = select.select([client, tls], [], [], 0 if tls.pending() else PATIENCE_S * 2)
        if not ready and not tls.pending():
            return
        if client in ready:
            data = client.recv(65536)
            if not data:
                return
            tls.sendall(data)
        if tls in ready or tls.pending():
            data = read(tls, key, 0)
            if data == b"":
                return
            if data:
                client.sendall(data)


def frame(kind, flags, payload, stream=1):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(text):
    # Without Huffman, so that any byte can stand in it (RFC 7541 5.2).
    text = text.encode("latin-1")
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, coded = len(text) - 127, b"\x7f"
    while rest >= 128:
        coded += bytes([rest % 128 + 128])
        rest //= 128
    return coded + bytes([rest]) + text


def request(fields, body):
    block = b"".join(b"\x00" + literal(name) + literal(value) for name, value in fields)
    if not body:
        return frame(1, 5, block)
    return frame(1, 4, block) + frame(0, 1, body.encode("latin-1"))


def exchange(client, tls, key, ask):
    tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, b"", 0))
    tls.sendall(request(ask["http2"], ask["body"]))
    while (data := read(tls, key, SILENCE_S)) != b"":
        if data is None:
            return
        client.sendall(data)


WINDOW = 1 << 30
# Fields that speak of a connection of HTTP/1.1 (RFC 9113 8.2.2), or that are pseudo-fields now.
OF_CONNECTIONS = {b"host", b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Stream:
    """One request, and what of its answer has not gone to the client."""

    def __init__(self, method):
        self.method, self.answer, self.chunked, self.is_over = method, b"", False, False

    def head(self, fields):
        status = next(value for name, value in fields if name == b":status")
        lines = [name + b": " + value for name, value in fields if not name.startswith(b":")]
        if int(status) >= 200:
            # Whatever its length is said to be: trailers have their place behind chunks alone.
            self.chunked = self.method != b"HEAD" and status not in (b"204", b"304")
            lines += [b"transfer-encoding: chunked"] if self.chunked else []
        self.answer += b"\r\n".join([b"HTTP/1.1 " + status + b" ", *lines, b"", b""])

    def data(self, data):
        self.answer += b"%x\r\n%b\r\n" % (len(data), data) if self.chunked and data else data

    def end(self, trailers=()):
        self.is_over = True
        if self.chunked:
            lines = [name + b": " + value for name, value in trailers]
            self.answer += b"\r\n".join([b"0", *lines, b"", b""])


class Translation:
    def __init__(self, tls):
        import hpack

        self.tls, self.encoder, self.decoder = tls, hpack.Encoder(), hpack.Decoder()
        self.asked, self.came, self.block = b"", b"", b""
        self.streams, self.next, self.is_broken, self.is_last = {}, 1, False, False
        start = frame(4, 0, b"\x00\x04" + WINDOW.to_bytes(4, "big"), 0)
        tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + start + frame(8, 0, WINDOW.to_bytes(4, "big"), 0))

    def asks(self, data):
        """Sends the requests that are whole."""
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            head, rest = self.asked.split(b"\r\n\r\n", 1)
            first, *lines = head.split(b"\r\n")
            method, target, _ = first.split(b" ", 2)
            fields = [tuple(part.strip() for part in line.split(b":", 1)) for line in lines]
            fields = [(name.lower(), value) for name, value in fields]
            length = next((int(value) for name, value in fields if name == b"content-length"), 0)
            if len(rest) < length:
                return
            body, self.asked = rest[:length], rest[length:]
            host = next((value for name, value in fields if name == b"host"), b"")
            pseudo = [(b":method", method), (b":scheme", b"https"), (b":authority", host), (b":path", target)]
            others = [field for field in fields if field[0] not in OF_CONNECTIONS]
            block = self.encoder.encode(pseudo + others)
            self.tls.sendall(frame(1, 4 if body else 5, block, self.next))
            if body:
                self.tls.sendall(frame(0, 1, body, self.next))
            self.streams[self.next] = Stream(method)
            self.next += 2

    def takes(self, data):
        self.came += data
        while len(self.came) >= 9:
            end = 9 + int.from_bytes(self.came[:3], "big")
            if len(self.came) < end:
                return
            kind, flags, number = self.came[3], self.came[4], int.from_bytes(self.came[5:9], "big")
            payload, self.came = self.came[9:end], self.came[end:]
            self.take(kind, flags, self.streams.get(number), payload)

    def take(self, kind, flags, stream, payload):
        if kind in (1, 9):
            self.block += payload
            if kind == 1:
                self.is_last = bool(flags & 1)
            if not flags & 4:
                return
            fields, self.block = self.decoder.decode(self.block, raw=True), b""
            fields = [(bytes(name), bytes(value)) for name, value in fields]
            if stream and any(name == b":status" for name, _ in fields):
                stream.head(fields)
                fields = []
            if stream and self.is_last:
                stream.end(fields)
        elif kind == 0 and stream:
            stream.data(payload)
            if flags & 1:
                stream.end()
        elif kind == 3 and stream:
            self.is_broken = True
        elif kind == 4 and not flags & 1:
            self.tls.sendall(frame(4, 1, b"", 0))
        elif kind == 6 and not flags & 1:
            self.tls.sendall(frame(6, 1, payload, 0))

    def answers(self):
        """What may go to the client: an answer waits for those before it."""
        for number in list(self.streams):
            stream = self.streams[number]
            yield stream.answer
            stream.answer = b""
            if not stream.is_over:
                return
            del self.streams[number]

    def give_up(self):
        for number in self.streams:
            self.tls.sendall(frame(3, 0, b"\x00\x00\x00\x08", number))


def translate(client, tls, key):
    through = Translation(tls)
    while not through.is_broken:
        ready, _, _ = select.select([client, tls], [], [], 0 if tls.pending() else PATIENCE_S * 2)
        if not ready and not tls.pending():
            return
        if client in ready:
            data = client.recv(65536)
            if not data:
                return through.give_up()
            through.asks(data)
        if tls in ready or tls.pending():
            data = read(tls, key, 0)
            if data == b"":
                return
            through.takes(data or b"")
        for answer in through.answers():
            client.sendall(answer)


def serve(client):
    with client:
        line = b""
        while not line.endswith(b"\n"):
            byte = client.recv(1)
            if not byte:
                return
            line += byte
        ask = json.loads(line)
        try:
            key, tls = connected(ask)
            with tls:
                if ask["http2"]:
                    exchange(client, tls, key, ask)
                elif ask["translated"]:
                    translate(client, tls, key)
                else:
                    pass_through(client, tls, key)
        except OSError:
            # Refused: the client sees that its connection is closed.
            return


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
