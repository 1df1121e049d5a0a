"""A `kvass serve` for tests, and a plain client of it: the standard library alone.

KVASS_PROGRAM is the command line, KVASS_MODEL a GGUF file; tests are skipped where one of them is missing. KVASS_LOG is a folder
that keeps what the servers wrote to stderr.
"""
import http.client
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import urllib.parse

# A chat template for models that have none. What stands before the first message is the same for all conversations.
TEMPLATE = """{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else \
message['role'] }}
{{ message['content'] }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def missing():
    """Why the tests cannot run; None where they can."""
    for name in ("KVASS_PROGRAM", "KVASS_MODEL"):
        path = os.environ.get(name, "")
        if not os.path.exists(path):
            return f"set {name} to a file to run this test"
    return None


def program():
    return os.environ["KVASS_PROGRAM"]


def model():
    return os.environ["KVASS_MODEL"]


def run_json(*arguments, stdin=None):
    """What a command of kvass prints with --json: one value a line."""
    done = subprocess.run([program(), *map(str, arguments), "--json"], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


MODEL = "the-model"
GREEDY = {"model": MODEL, "temperature": 0}


def run_alone(prompt, *flags):
    return run_json("run", model(), "-p", prompt, "--context", 1024, "-q", *flags)[0]


def turn(text):
    return f"<start_of_turn>user\n{text}<end_of_turn>\n<start_of_turn>model\n"


class HttpError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]!r}")
        self.status = status
        self.body = body


class Gone(Exception):
    """The connection ended before the whole answer had come."""


class Client:
    """One connection for each request, so that a request that was cut is never mistaken for the next one."""

    def __init__(self, url, timeout=300.0):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.timeout = parts.hostname, parts.port, timeout

    def _open(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        data = None if body is None else json.dumps(body).encode()
        fields = {} if body is None else {"Content-Type": "application/json"}
        fields.update(headers or {})
        try:
            connection.request(method, path, data, fields)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Gone(str(error)) from error

    def raw(self, method, path, body=None, headers=None):
        """(status, headers, bytes)"""
        connection, response = self._open(method, path, body, headers)
        try:
            return response.status, dict(response.getheaders()), response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Gone(str(error)) from error
        finally:
            connection.close()

    def __call__(self, method, path, body=None, headers=None):
        status, _, data = self.raw(method, path, body, headers)
        if not 200 <= status < 300:
            raise HttpError(status, data.decode(errors="replace"))
        return json.loads(data) if data else None

    def post(self, path, body=None):
        return self("POST", path, {} if body is None else body)

    def get(self, path):
        return self("GET", path)

    def stream(self, path, body):
        """The JSON of each event; the last one is "[DONE]", as text. Leaving the loop early closes the connection."""
        connection, response = self._open("POST", path, body, None)
        try:
            if response.status != 200:
                raise HttpError(response.status, response.read().decode(errors="replace"))
            whole = False
            while True:
                line = response.readline()
                if not line:
                    break
                line = line.rstrip(b"\r\n")
                if not line.startswith(b"data: "):
                    continue
                data = line[len(b"data: "):]
                if data == b"[DONE]":
                    whole = True
                    yield "[DONE]"
                else:
                    yield json.loads(data)
            if not whole and path != "/v1/responses":
                raise Gone("the stream ended without [DONE]")
        except (OSError, http.client.HTTPException) as error:
            raise Gone(str(error)) from error
        finally:
            connection.close()


class Server:
    """Starts a server at a free port, and ends it."""

    def __init__(self, *flags, template=TEMPLATE, port=0, name="server", environment=None):
        self._folder = tempfile.TemporaryDirectory(prefix="kvass-serve-")
        self.folder = pathlib.Path(self._folder.name)
        self.port, self.name, self.flags = port, name, list(map(str, flags))
        self.environment = environment
        if template is not None:
            path = self.folder / "template.jinja"
            path.write_text(template, encoding="utf-8")
            self.flags += ["--template-file", str(path)]
        self.process = None
        self.url = None
        self.starts = 0
        self.start()

    def log_path(self):
        folder = os.environ.get("KVASS_LOG")
        return (pathlib.Path(folder) if folder else self.folder) / f"{self.name}-{self.starts}.log"

    def start(self):
        self.starts += 1
        with open(self.log_path(), "wb") as log:
            self.process = subprocess.Popen(
                [program(), "serve", model(), "--port", str(self.port), "--json", *self.flags], stdout=subprocess.PIPE,
                stderr=log, env=self.environment)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise AssertionError("the server did not start: " + self.log())
        self.url = json.loads(line)["url"]
        self.port = urllib.parse.urlsplit(self.url).port  # a second start is where clients look for it
        self.client = Client(self.url)

    def log(self):
        return self.log_path().read_text(encoding="utf-8", errors="replace")

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """In order; the exit code."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        return code

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
