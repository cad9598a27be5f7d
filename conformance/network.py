"""A network of our own: Triton's tests want ports 8000 to 8002, which others may be using."""

import ctypes
import fcntl
import os
import socket
import struct

NEW_NETWORK = 0x40000000
NEW_USER = 0x10000000
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1


def isolate() -> bool:
    """Moves this process, and what it starts, to a network that holds nothing but localhost.

    False where the system does not allow it: then the ports are the machine's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEW_NETWORK) != 0:
        if libc.unshare(NEW_USER | NEW_NETWORK) != 0:
            return False
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, GET_FLAGS, asked))[1]
        fcntl.ioctl(probe, SET_FLAGS, struct.pack("16sH14x", b"lo", flags | UP))
    return True
