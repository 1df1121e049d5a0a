"""A hub of models for tests: hub_server.py FOLDER prints its port and serves until its stdin ends.

FOLDER/OWNER/REPO/... are the files; those that are larger than 1,000 bytes are in the large store, which has SHA-256, and
come by a redirect from another path, as hubs do it. FOLDER/plan.json, read anew for each request, says what goes wrong:
    cut       bytes after which a body is cut off, and `cuts`: how many more times (the server counts down)
    pause     seconds before a body of a large file goes on after its first 10,000 bytes
    elsewhere large files are at another host's name
    damage    one byte of each large file is another
    status    of each request for a file, and `times`: how many more times
    ranges    false: whole bodies only
    token     the bearer that is asked for
    changed   files have these bytes added at their end, and a new commit
    no_head   HEAD is not answered
    page      files of a page of the list
    log       a file that gets a line for each request: METHOD PATH RANGE AUTHORISED
"""
import hashlib
import http.server
import json
import pathlib
import re
import sys
import threading
import time
import urllib.parse

ROOT = pathlib.Path(sys.argv[1])
LARGE = 1000
LOCK = threading.Lock()


def plan():
    path = ROOT / "plan.json"
    return json.loads(path.read_text()) if path.exists() else {}


def counts_down(key):
    """True while the plan's counter `key` is not used up."""
    with LOCK:
        now = plan()
        if now.get(key, 0) <= 0:
            return False
        now[key] -= 1
        (ROOT / "plan.json").write_text(json.dumps(now))
        return True


def content(path):
    return path.read_bytes() + plan().get("changed", "").encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value, headers=()):
        self.answer(200, json.dumps(value).encode(), headers)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        now = plan()
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        token = self.headers.get("Authorization", "")
        if "log" in now:
            with LOCK, open(now["log"], "a") as log:
                log.write(f"{self.command} {self.path} {self.headers.get('Range', '-')} {token or '-'}\n")
        store = path.startswith("/store/")
        if "token" in now and not store and token != "Bearer " + now["token"]:
            return self.answer(401)
        if now.get("no_head") and self.command == "HEAD":
            return self.answer(405)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path)
        if api:
            return self.api(now, ROOT / api[1], api[2], api[3], urllib.parse.parse_qs(url.query))
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        target = ROOT / path[len("/store/"):] if store else ROOT / file[1] / file[2] if file else ROOT / path[1:]
        if not target.is_file():
            return self.answer(404)
        if counts_down("times"):
            return self.answer(now["status"], b"later", [("Retry-After", "0")])
        body = content(target)
        if file and len(body) > LARGE:
            host = f"http://localhost:{server.server_port}" if now.get("elsewhere") else ""
            place = host + "/store/" + str(target.relative_to(ROOT))
            tag = hashlib.sha256(body).hexdigest()
            return self.answer(302, b"", [("Location", place), ("X-Linked-ETag", f'"{tag}"'), ("X-Linked-Size", str(len(body)))])
        self.body(now, body)

    def api(self, now, folder, what, revision, query):
        commit = hashlib.sha1(now.get("changed", "").encode()).hexdigest()
        if not folder.is_dir() or revision not in ("main", commit):
            return self.answer(404)
        if what == "revision":
            return self.json({"sha": commit, "cardData": {"license": "apache-2.0"}})
        rows = []
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_dir():
                rows.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
                continue
            body = content(path)
            row = {"type": "file", "path": name, "size": len(body)}
            row["oid"] = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            if len(body) > LARGE:
                row["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body)}
            rows.append(row)
        rows += now.get("rows", [])
        size = now.get("page", len(rows) or 1)
        begin = int(query.get("cursor", ["0"])[0])
        headers = []
        if begin + size < len(rows):
            here = f"http://{self.headers['Host']}{urllib.parse.urlsplit(self.path).path}"
            headers = [("Link", f'<{here}?recursive=true&cursor={begin + size}>; rel="next"')]
        self.json(rows[begin : begin + size], headers)

    def body(self, now, body):
        tag = '"' + hashlib.md5(body).hexdigest() + '"'
        if now.get("damage") and len(body) > LARGE:
            body = body[:500] + bytes([body[500] ^ 1]) + body[501:]
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and now.get("ranges", True) and self.headers.get("If-Range", tag) == tag:
            begin = int(asked[1])
            if begin >= len(body):
                return self.answer(416)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        rest = body[begin:]
        if len(rest) > now.get("cut", len(rest)) and counts_down("cuts"):
            self.wfile.write(rest[: now["cut"]])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        if "pause" in now and len(rest) > 10000:
            self.wfile.write(rest[:10000])
            self.wfile.flush()
            time.sleep(now["pause"])
            rest = rest[10000:]
        self.wfile.write(rest)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass  # a client that goes away is what some tests are about


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdout.write(f"{server.server_port}\n")
sys.stdout.flush()
sys.stdin.read()
server.server_close()
