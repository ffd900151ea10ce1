"""Runs a command and keeps what passes: `tee.py DIR COMMAND...` writes DIR/PID.in and DIR/PID.out.

For stdio MCP servers: bytes pass as they come, end of input is passed on, the exit code is the command's.
"""

import os
import signal
import subprocess
import sys
import threading


def pump(source, sink, path):
    """Moves bytes until the source ends; the copy is on disk before the bytes go on."""
    with open(path, "wb", buffering=0) as copy:
        while chunk := os.read(source, 65536):
            copy.write(chunk)
            try:
                while chunk:
                    chunk = chunk[os.write(sink, chunk) :]
            except BrokenPipeError:
                return


def main():
    directory, *command = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    base = os.path.join(directory, str(os.getpid()))
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: child.send_signal(received))

    def feed():
        pump(sys.stdin.fileno(), child.stdin.fileno(), f"{base}.in")
        child.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    pump(child.stdout.fileno(), sys.stdout.fileno(), f"{base}.out")
    code = child.wait()
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


main()
