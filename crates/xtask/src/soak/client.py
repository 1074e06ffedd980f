# Clients of all kinds at once, over HTTP/1.1, the same in TLS, and HTTP/2 in TLS. They take no answer but the
# right one, and count what they were shown.
#
# Arguments: what (`load` or `watch`), the host, the port in cleartext and the port with TLS. Prints `flowing`
# when everybody has been shown something; at a line on its input, stops and prints what was seen as JSON.
#
# `load` asks, downloads, listens, leaves in the middle, and speaks through tunnels. `watch` holds what never
# ends by itself, and notes when the last byte of it came.
import asyncio
import collections
import json
import ssl
import sys
import time

import hpack

WHAT, HOST, PLAIN, SECURE = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
PATIENCE_S = 20
# What an origin does not answer for much longer than this is left before there is an answer.
EARLY_S = 0.15
FAILURES_MAX = 20
LONG_BYTES = 20 * 50_000
WINDOW = 1 << 30


def tls(protocol):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


H1_TLS, H2_TLS = tls("http/1.1"), tls("h2")


class Lost(Exception):
    """A connection ended where an answer was due."""


class Again(Exception):
    """The other side says that it has not looked at this request."""


async def connect(secure, context=H1_TLS):
    port, more = PLAIN, {}
    if secure:
        port, more = SECURE, {"ssl": context, "server_hostname": HOST}
    return await asyncio.open_connection("127.0.0.1", port, **more)


class H1:
    """One request after another, on a connection that is kept for as long as it is not said to be the last."""

    def __init__(self, secure):
        self.secure, self.kept, self.connections = secure, None, 0
        self.name = "HTTP/1.1 in TLS" if secure else "HTTP/1.1"

    async def begin(self, method, path, cookie, body):
        if self.kept is None:
            self.kept = await connect(self.secure)
            self.connections += 1
        reader, writer = self.kept
        self.kept = None
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: sid={cookie}\r\n"
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        return H1Answer(self, reader, writer, method)


class H1Answer:
    def __init__(self, client, reader, writer, method):
        self.client, self.reader, self.writer, self.method = client, reader, writer, method
        self.left, self.chunked = 0, False

    async def head(self):
        status, fields = await h1_head(self.reader)
        self.last = fields.get("connection") == "close"
        self.chunked = fields.get("transfer-encoding") == "chunked"
        self.left = int(fields.get("content-length", 0))
        if self.method == "HEAD":
            self.left, self.chunked = 0, False
        return status, fields

    async def piece(self):
        """Some of the body; nothing at its end."""
        if self.chunked and self.left == 0:
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                await self.reader.readuntil(b"\r\n")
            self.chunked, self.left = size > 0, size
        if self.left == 0:
            self.whole()
            return b""
        piece = await self.reader.read(min(self.left, 65_536))
        if not piece:
            raise Lost(f"{self.left} bytes before the end of a body")
        self.left -= len(piece)
        if self.chunked and self.left == 0:
            await self.reader.readexactly(2)
        return piece

    def whole(self):
        if self.last:
            self.writer.close()
        else:
            self.client.kept = (self.reader, self.writer)

    def give_up(self):
        self.writer.transport.abort()


async def h1_head(reader):
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError as error:
        raise Lost(f"a connection ended with {len(error.partial)} bytes of a head") from error
    fields = (line.split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in fields}


class H2:
    """Requests beside each other, on one connection for as long as nobody says that it ends."""

    def __init__(self):
        self.connection, self.connections, self.opening = None, 0, asyncio.Lock()
        self.name = "HTTP/2"

    async def begin(self, method, path, cookie, body):
        async with self.opening:
            if self.connection is None or self.connection.leaves:
                self.connection = H2Connection(*await connect(True, H2_TLS))
                self.connections += 1
            return self.connection.begin(method, path, cookie, body)


class H2Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next, self.answers, self.leaves, self.taken = 1, {}, False, 0
        # Windows so large that they need no looking after (RFC 9113 6.9).
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(4, 0, 0, b"\x00\x04" + WINDOW.to_bytes(4, "big")))
        writer.write(self.frame(8, 0, 0, (WINDOW - 65_535).to_bytes(4, "big")))
        self.task = asyncio.create_task(self.read())

    @staticmethod
    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def begin(self, method, path, cookie, body):
        number, self.next = self.next, self.next + 2
        fields = [(":method", method), (":scheme", "https"), (":authority", HOST), (":path", path), ("cookie", f"sid={cookie}")]
        block = self.encoder.encode(fields)
        self.writer.write(self.frame(1, 4 if body else 5, number, block))
        if body:
            self.writer.write(self.frame(0, 1, number, body))
        answer = H2Answer(self, number)
        self.answers[number] = answer
        return answer

    async def read(self):
        block = b""
        try:
            while True:
                fixed = await self.reader.readexactly(9)
                kind, flags, number = fixed[3], fixed[4], int.from_bytes(fixed[5:], "big")
                payload = await self.reader.readexactly(int.from_bytes(fixed[:3], "big"))
                answer = self.answers.get(number)
                if kind in (1, 9):
                    block += payload
                    if flags & 4:
                        fields, block = dict(self.decoder.decode(block)), b""
                        if answer and int(fields.get(":status", 200)) >= 200:
                            answer.came.put_nowait(fields)
                elif kind == 0:
                    self.took(len(payload))
                    if answer and payload:
                        answer.came.put_nowait(payload)
                elif kind == 3 and answer:
                    # REFUSED_STREAM: not looked at (RFC 9113 8.7).
                    refused = int.from_bytes(payload, "big") == 7
                    answer.came.put_nowait(Again() if refused else Lost(f"a reset with {payload}"))
                elif kind == 4 and not flags & 1:
                    self.writer.write(self.frame(4, 1, 0, b""))
                elif kind == 6 and not flags & 1:
                    self.writer.write(self.frame(6, 1, 0, payload))
                elif kind == 7:
                    self.goes_away(payload)
                if answer and kind in (0, 1) and flags & 1:
                    answer.came.put_nowait(None)
                    del self.answers[number]
        except (asyncio.IncompleteReadError, OSError) as error:
            self.leaves = True
            for answer in self.answers.values():
                answer.came.put_nowait(Lost(f"a connection ended: {error!r}"))
            self.writer.close()

    def goes_away(self, payload):
        last, error = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
        self.leaves = True
        for number in [number for number in self.answers if number > last]:
            self.answers.pop(number).came.put_nowait(Again())
        if error:
            for answer in self.answers.values():
                answer.came.put_nowait(Lost(f"the connection is said to be wrong: {payload}"))

    def took(self, count):
        self.taken += count
        if self.taken > WINDOW // 2:
            self.writer.write(self.frame(8, 0, 0, self.taken.to_bytes(4, "big")))
            self.taken = 0


class H2Answer:
    def __init__(self, connection, number):
        self.connection, self.number, self.came = connection, number, asyncio.Queue()

    async def take(self):
        came = await self.came.get()
        if isinstance(came, Exception):
            raise came
        return came

    async def head(self):
        fields = await self.take()
        return int(fields[":status"]), fields

    async def piece(self):
        came = await self.take()
        while isinstance(came, dict):
            came = await self.take()
        return came or b""

    def give_up(self):
        if self.connection.answers.pop(self.number, None):
            # CANCEL (RFC 9113 7).
            self.connection.writer.write(H2Connection.frame(3, 0, self.number, b"\x00\x00\x00\x08"))


class Seen:
    def __init__(self):
        # Final responses of the origin, by status, from the first byte of their head on.
        self.shown = collections.Counter()
        # The edge's own.
        self.own = collections.Counter()
        self.by_protocol = collections.Counter()
        self.whole = self.left_amid = self.left_before = self.tunnels = 0
        self.failures, self.last = [], 0.0

    def fails(self, what):
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(what)


SEEN = Seen()
STOPS = asyncio.Event()


async def visit(client, method, path, cookie, body=b"", stay=None, early=False):
    """One request, to its end; or until it is left, so long after it began, or before there is an answer."""
    while True:
        answer = await client.begin(method, path, cookie, body)
        try:
            if early:
                await asyncio.wait_for(answer.head(), EARLY_S)
                raise Lost("what is never answered was")
            status, fields = await asyncio.wait_for(answer.head(), PATIENCE_S)
            break
        except asyncio.TimeoutError:
            if not early:
                raise Lost(f"no answer in {PATIENCE_S} s") from None
            answer.give_up()
            SEEN.left_before += 1
            return
        except Again:
            continue
    is_own = "x-origin" not in fields
    (SEEN.own if is_own else SEEN.shown)[status] += 1
    if not is_own:
        SEEN.last = time.time()
        SEEN.by_protocol[client.name] += 1
    begun, size, first = asyncio.get_running_loop().time(), 0, b""
    while piece := await asyncio.wait_for(answer.piece(), PATIENCE_S):
        size, first = size + len(piece), first or piece
        if not is_own:
            SEEN.last = time.time()
        if stay is not None and asyncio.get_running_loop().time() - begun >= stay:
            answer.give_up()
            SEEN.left_amid += 1
            return
    if is_own:
        return
    SEEN.whole += 1
    if "/download/" in path and size != LONG_BYTES:
        raise Lost(f"a download of {size} bytes")
    if method != "HEAD" and "/download/" not in path and not first.startswith(path.encode()):
        raise Lost(f"{path} was answered with {first[:80]}")


async def browses(client, name, turn):
    path = f"/page/{name}/{turn}"
    match turn % 6:
        case 0 | 3:
            await visit(client, "GET", f"/shared/{turn % 14}.css", name)
        case 1:
            await visit(client, "GET", path, name)
        case 2:
            await visit(client, "POST", f"/post/{name}/{turn}", name, b"x" * (1 + turn % 100))
        case 4:
            await visit(client, "GET", f"/slow/{name}/{turn}", name)
        case _:
            await visit(client, "HEAD" if turn % 2 else "GET", f"/missing/{name}/{turn}", name)
    await asyncio.sleep(turn * 7 % 20 / 1000)


async def downloads(client, name, turn):
    await visit(client, "GET", f"/download/{name}/{turn}", name)


async def listens(client, name, turn):
    await visit(client, "GET", f"/events/{name}/{turn}", name, stay=0.5 + turn % 4 * 0.4)


async def leaves(client, name, turn):
    if turn % 2:
        await visit(client, "GET", f"/never/{name}/{turn}", name, early=True)
    else:
        await visit(client, "GET", f"/download/{name}/{turn}", name, stay=0.0)
    await asyncio.sleep(0.05)


async def tunnel(secure, path):
    """The two halves of a tunnel; nothing when the answer is the edge's own."""
    reader, writer = await connect(secure)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: sid=tunnel\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    status, _ = await h1_head(reader)
    if status != 101:
        SEEN.own[status] += 1
        writer.close()
        return None
    return reader, writer


async def talks(client, name, turn):
    """Each message comes back; after the last one the origin ends."""
    halves = await tunnel(client.secure, f"/ws/echo/{name}/{turn}")
    if halves is None:
        return
    SEEN.tunnels += 1
    reader, writer = halves
    for n in range(5 + turn % 10):
        message = f"{name} {turn} {n}".encode().ljust(40)
        writer.write(message)
        if await asyncio.wait_for(reader.readexactly(40), PATIENCE_S) != message:
            raise Lost("a tunnel said something else")
        SEEN.last = time.time()
        await asyncio.sleep(0.03)
    writer.write(b"the last".ljust(40))
    if await asyncio.wait_for(reader.read(), PATIENCE_S) != b"the last".ljust(40):
        raise Lost("a tunnel did not end as it should")
    writer.close()


async def worker(what, client, name, started):
    turn = 0
    while not STOPS.is_set():
        try:
            await what(client, name, turn)
        except (Lost, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            SEEN.fails(f"{what.__name__} {name} {turn} over {client.name}: {error!r}")
            client.kept = None
            await asyncio.sleep(0.1)
        turn += 1
        started.set()


async def told():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def load():
    plain, secure = [H1(False) for _ in range(8)], [H1(True) for _ in range(6)]
    one, other = H2(), H2()
    jobs = [
        *zip([browses, browses, browses, downloads, leaves, leaves, listens, talks], plain),
        *zip([browses, browses, downloads, leaves, listens, talks], secure),
        *((what, one) for what in [browses, browses, browses, downloads, leaves, listens]),
        *((what, other) for what in [browses, browses, leaves]),
    ]
    begun = [asyncio.Event() for _ in jobs]
    tasks = [asyncio.create_task(worker(what, client, f"m{n}", begun[n])) for n, (what, client) in enumerate(jobs)]
    for event in begun:
        await event.wait()
    print("flowing", flush=True)
    await told()
    STOPS.set()
    await asyncio.gather(*tasks)
    connections = sum(client.connections for client in [*plain, *secure, one, other])
    return {
        "shown": SEEN.shown,
        "own": SEEN.own,
        "by_protocol": SEEN.by_protocol,
        "whole": SEEN.whole,
        "left_amid": SEEN.left_amid,
        "left_before": SEEN.left_before,
        "tunnels": SEEN.tunnels,
        "connections": connections,
        "failures": SEEN.failures,
        "last_ms": SEEN.last * 1000,
    }


class Watched:
    def __init__(self, what):
        self.what, self.bytes, self.last, self.ended = what, 0, 0.0, None
        self.flows = asyncio.Event()

    def took(self, piece):
        self.bytes, self.last = self.bytes + len(piece), time.time()
        if self.bytes > 100:
            self.flows.set()

    async def stream(self, client, path):
        try:
            answer = await client.begin("GET", path, "watcher", b"")
            await answer.head()
            while piece := await answer.piece():
                self.took(piece)
            self.ended = "as if it were whole"
        except (Lost, OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            self.ended = repr(error)

    async def tunnel(self, secure):
        try:
            reader, _ = await tunnel(secure, "/ws/flow")
            while piece := await reader.read(65_536):
                self.took(piece)
            self.ended = "at its end"
        except (Lost, OSError, ssl.SSLError) as error:
            self.ended = repr(error)


async def watch():
    seen, tasks = [], []
    for what, path in [("download", "/flow/download"), ("event stream", "/events/watch")]:
        for client in [H1(False), H1(True), H2()]:
            watched = Watched(f"{what} over {client.name}")
            tasks.append(asyncio.create_task(watched.stream(client, path)))
            seen.append(watched)
    for secure, name in [(False, "WebSocket"), (True, "WebSocket in TLS")]:
        watched = Watched(name)
        tasks.append(asyncio.create_task(watched.tunnel(secure)))
        seen.append(watched)
    for watched in seen:
        await watched.flows.wait()
    print("flowing", flush=True)
    await told()
    return [
        {"what": watched.what, "bytes": watched.bytes, "last_ms": watched.last * 1000, "ended": watched.ended}
        for watched in seen
    ]


print(json.dumps(asyncio.run(load() if WHAT == "load" else watch())), flush=True)
