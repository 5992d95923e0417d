"""What the worker's tests run in children: mostly what a hostile network file would do."""

import ctypes
import os
import sys
import threading
import time

from exportkit import worker
from exportkit.errors import LoadError


def add(a, b):
    worker.report("adding")
    return a + b


def leave(code):
    os._exit(code)


def leave_politely(code):
    sys.exit(code)


def crash():
    ctypes.string_at(0)


def hang():
    worker.user_file(__file__)
    while True:
        time.sleep(0.01)


def divide():
    worker.user_file(__file__)
    return 1 / 0


def refuse():
    raise LoadError("no", where="net.py:3", todo="do")


def allocate():
    return len(bytearray(8 << 30))


def close_everything():
    os.closerange(0, 4096)


def chatter():
    print('{"status": "ok"}')
    sys.stdout.close()
    return "answered"


def linger():
    """Leaves a thread and a grandchild that hold everything open."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return "answered"


def replace_functions():
    import pickle
    import socket

    os._exit = pickle.dumps = socket.socket.sendall = lambda *_: None
    return "answered"


def hold(value):
    return f"holds {value}", {"value": value}


def mutate(held, value):
    held["value"] = value
    return held["value"]


def look(held):
    return held["value"]


def pid():
    return os.getpid()
