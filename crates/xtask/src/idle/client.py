# Opens so many connections, has one answer on each, and keeps them. Then, at each line on its standard
# input, asks again on some of them. What it speaks: h1, tls (HTTP/1.1 in TLS) or h2 (HTTP/2 in TLS).
import resource
import socket
import ssl
import sys

address, port, kind, count, again = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols(["h2"] if kind == "h2" else ["http/1.1"])
BODY = b"a { color: red }"


def exactly(stream, length):
    data = b""
    while len(data) < length:
        more = stream.recv(length - len(data))
        if not more:
            sys.exit("a connection was closed")
        data += more
    return data


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def ask_h1(stream):
    stream.sendall(b"GET /idle.css HTTP/1.1\r\nHost: idle.test\r\n\r\n")
    answer = b""
    while not answer.endswith(BODY):
        more = stream.recv(4096)
        if not more:
            sys.exit("a connection was closed")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"no 200: {answer}")


def ask_h2(stream, number):
    # HPACK (RFC 7541): method GET, scheme https, path and authority as literals without a table.
    head = b"\x82\x87\x04\x09/idle.css\x01\x09idle.test"
    # END_STREAM and END_HEADERS.
    stream.sendall(frame(1, 5, number, head))
    body = b""
    while True:
        fixed = exactly(stream, 9)
        payload = exactly(stream, int.from_bytes(fixed[:3], "big"))
        what, flags = fixed[3], fixed[4]
        if what == 4 and not flags & 1:
            stream.sendall(frame(4, 1, 0, b""))
        if what == 7 or what == 3:
            sys.exit(f"a connection or stream was ended: {payload}")
        if what == 0:
            body += payload
            if flags & 1:
                break
    if body != BODY:
        sys.exit(f"not the body: {body}")


def ask(stream, turn):
    if kind == "h2":
        ask_h2(stream, 2 * turn + 1)
    else:
        ask_h1(stream)


streams = []
for n in range(count):
    stream = socket.create_connection((address, port), timeout=30)
    if kind != "h1":
        stream = context.wrap_socket(stream, server_hostname="idle.test")
    if kind == "h2":
        if stream.selected_alpn_protocol() != "h2":
            sys.exit("HTTP/2 was not agreed on")
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    ask(stream, 0)
    streams.append(stream)
print("open", flush=True)
for turn, _ in enumerate(sys.stdin, 1):
    for stream in streams[:: max(1, count // again)]:
        ask(stream, turn)
    print("asked", flush=True)
