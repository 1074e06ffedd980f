# Speaks TLS for the clients of a script. Each connection begins with a line of JSON: where to, for which
# viewer, with which server name, version and certificate, and whether the session that this viewer had last
# is offered, at whichever server it was. Then bytes go through as they are; or, with "http2", one request is
# sent as frames, whatever is in it, and what comes back goes through as it comes.
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
    key = (ask["viewer"], ask["certificate"], ask["tls12"], bool(ask["http2"]))
    with lock:
        if key not in contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if ask["tls12"]:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            if ask["certificate"]:
                context.load_cert_chain(f"{FOLDER}/member.pem", f"{FOLDER}/member.key")
            context.set_alpn_protocols(["h2"] if ask["http2"] else ["http/1.1"])
            contexts[key] = context
        return key, contexts[key]


def connected(ask):
    key, context = context_of(ask)
    plain = socket.create_connection(tuple(ask["to"]), timeout=PATIENCE_S)
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
                else:
                    pass_through(client, tls, key)
        except OSError:
            # Refused: the client sees that its connection is closed.
            return


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
