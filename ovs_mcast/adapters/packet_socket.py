"""Raw AF_PACKET sockets: send and receive frames, in this network namespace or another's.

A frame is the bytes on the wire without the frame checksum; core.frames decodes it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread
from typing import TypeVar

from ..core.closeable import Closeable
from ..core.frames import ETHERTYPE_IPV4, ETHERTYPE_IPV6, tagged
from ..errors import UnavailableError

ETH_P_ALL = 0x0003

# linux/socket.h, linux/if_packet.h, linux/sched.h: missing in Python.
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_CLONE_NEWNET = 0x40000000
_TP_STATUS_VLAN_VALID = 1 << 4
_TP_STATUS_VLAN_TPID_VALID = 1 << 6
# struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid.
_AUXDATA = struct.Struct("=IIIHHHH")

_FRAME_BYTES = 65_535
_BUFFER_BYTES = 64 << 20

# struct sock_filter of linux/filter.h: code, jump if true, jump if false, operand.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_AT_X = 0x28, 0x30, 0x48
_X_IS_IPV4_HEADER, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0xB1, 0x15, 0x45, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_PACKET_OUTGOING = 4
_WHOLE = 0xFFFFFFFF

_T = TypeVar("_T")


class PacketSocket(Closeable):
    """Frames of one device: sends them, and receives those of one ethertype (all, by default).

    ``namespace`` is the id of a process in whose network namespace the device is. Frames that this
    machine itself sends are received only with ``outgoing``, and alone without ``incoming``. With
    ``udp_port``, the kernel hands over UDP to this port alone, over IPv4, or IPv6 without extension
    headers. UnavailableError if the device or CAP_NET_RAW is missing.
    """

    def __init__(
        self,
        device: str,
        *,
        namespace: int | None = None,
        ethertype: int = ETH_P_ALL,
        outgoing: bool = False,
        incoming: bool = True,
        udp_port: int | None = None,
    ) -> None:
        self.device = device
        program = _filter(incoming, udp_port)
        try:
            self._socket = within(namespace, lambda: _open(device, ethertype, outgoing, program))
        except OSError as error:
            raise UnavailableError(f"no raw socket on {device}: {error.strerror}") from error

    def send(self, frame: bytes) -> None:
        """Put one frame on the device; UnavailableError if the device is down or gone."""
        try:
            self._socket.send(frame)
        except OSError as error:
            raise UnavailableError(f"cannot send on {self.device}: {error.strerror}") from error

    def receive(self, timeout: float = 0.0) -> bytes | None:
        """Return the next frame, or None if none comes within ``timeout`` seconds."""
        self._socket.settimeout(timeout)
        try:
            frame, ancillary, _, _ = self._socket.recvmsg(_FRAME_BYTES, 64)
        except (BlockingIOError, TimeoutError):
            return None
        except OSError as error:
            raise UnavailableError(f"cannot hear {self.device}: {error.strerror}") from error
        return _with_vlan_tag(frame, ancillary)

    def frames(self, seconds: float = 0.0) -> Iterator[bytes]:
        """Yield the frames in the queue, then those that come within so many seconds."""
        end = time.monotonic() + seconds
        while (frame := self.receive(max(0.0, end - time.monotonic()))) is not None:
            yield frame

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _open(device: str, ethertype: int, outgoing: bool, program: bytes) -> socket.socket:
    # Protocol 0 receives nothing until bind, so no frame of another device is ever in the queue.
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        if program:
            _attach_filter(packets, program)
        packets.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        packets.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(not outgoing))
        # Beyond net.core.rmem_max, which takes CAP_NET_ADMIN: without it, the buffer is smaller.
        with suppress(PermissionError):
            packets.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        packets.bind((device, ethertype))
    except OSError:
        packets.close()
        raise
    return packets


def _filter(incoming: bool, udp_port: int | None) -> bytes:
    """Return a classic BPF program (linux/filter.h); empty if every frame is wanted."""
    program: tuple[tuple[int, int, int, int], ...] = ()
    if not incoming:
        drop = (_RETURN, 0, 0, 0)
        program += ((_LOAD_BYTE, 0, 0, _PACKET_TYPE), (_JUMP_EQUAL, 1, 0, _PACKET_OUTGOING), drop)
    if udp_port is not None:
        program += _udp_to(udp_port)
    elif program:
        program += ((_RETURN, 0, 0, _WHOLE),)
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def _udp_to(port: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the instructions that keep UDP to the port, and no later fragment."""
    return (
        (_LOAD_HALF, 0, 0, 12),  # ethertype
        (_JUMP_EQUAL, 0, 7, ETHERTYPE_IPV4),
        (_LOAD_BYTE, 0, 0, 23),  # protocol
        (_JUMP_EQUAL, 0, 11, socket.IPPROTO_UDP),
        (_LOAD_HALF, 0, 0, 20),  # fragment offset
        (_JUMP_ANY_BIT, 9, 0, 0x1FFF),
        (_X_IS_IPV4_HEADER, 0, 0, 14),
        (_LOAD_HALF_AT_X, 0, 0, 16),  # destination port
        (_JUMP_EQUAL, 5, 6, port),
        (_JUMP_EQUAL, 0, 5, ETHERTYPE_IPV6),
        (_LOAD_BYTE, 0, 0, 20),  # next header
        (_JUMP_EQUAL, 0, 3, socket.IPPROTO_UDP),
        (_LOAD_HALF, 0, 0, 56),  # destination port
        (_JUMP_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    )


def _attach_filter(packets: socket.socket, program: bytes) -> None:
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many instructions, and where they are.
    where = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)


def within(namespace: int | None, make: Callable[[], _T]) -> _T:
    """Return what ``make`` opens in the network namespace of a process; its exception is raised.

    A socket belongs to its namespace for good, whichever thread uses it.
    """
    if namespace is None:
        return make()
    made: list[_T] = []
    failed: list[BaseException] = []

    # A thread has a namespace of its own, and this one ends: there is nothing to go back to.
    def enter_and_make() -> None:
        try:
            _setns(f"/proc/{namespace}/ns/net")
            made.append(make())
        except BaseException as error:  # raised in the caller's thread
            failed.append(error)

    thread = Thread(target=enter_and_make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _setns(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _with_vlan_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Put the VLAN tag back, which the kernel removes from a frame into ancillary data."""
    for level, kind, data in ancillary:
        if (level, kind) != (_SOL_PACKET, _PACKET_AUXDATA) or len(data) < _AUXDATA.size:
            continue
        status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(data)
        if status & _TP_STATUS_VLAN_VALID:
            return tagged(frame, tpid if status & _TP_STATUS_VLAN_TPID_VALID else 0x8100, tci)
    return frame
