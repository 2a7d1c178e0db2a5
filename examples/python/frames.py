"""Datagrams: frames of the world from the server, inputs to it.

Follows docs/wire.md: "The frame datagram", "The input datagram".
"""

import struct
from collections import namedtuple

State = namedtuple("State", "position velocity yaw animation flags")
Own = namedtuple("Own", "at velocity mode cooldown")
Frame = namedtuple("Frame", "tick acked_input dilated own states missing")
Input = namedtuple("Input", "forward right yaw buttons", defaults=(0, 0, 0, 0))

RUN = 2
KEPT_TICKS = 64
HIGH_HANDLE = 255


def expand(low, near):
    """The number nearest to `near` whose low 16 bits are `low`."""
    offset = (low - near) & 0xFFFF
    return near + (offset - 0x10000 if offset >= 0x8000 else offset)


def towards_zero(number, divisor):
    return abs(number) // divisor * (1 if number >= 0 else -1)


def unzigzag(code):
    return code >> 1 ^ -(code & 1)


def zigzag(number):
    return number << 1 if number >= 0 else ~(number << 1)


class BitReader:
    def __init__(self, data):
        self.word, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def bits(self, count):
        if count > self.left:
            raise ValueError("datagram ends too early")
        number = self.word & (1 << count) - 1
        self.word >>= count
        self.left -= count
        return number

    def sized(self, length_bits):
        return self.bits(self.bits(length_bits))

    def ones(self, most):
        """How many ones stand before a zero, which is taken too; `most` of them need no zero."""
        count = 0
        while count < most and self.bits(1):
            count += 1
        return count

    def rice(self, k):
        quotient = self.ones(1 << 16)
        return quotient << k | self.bits(k)

    def classes(self, *widths, numbers=1):
        ones = self.ones(len(widths))
        width = widths[ones] if ones < len(widths) else self.bits(6)
        return [self.bits(width) for _ in range(numbers)]

    def vector(self):
        width = self.bits(6)
        x, z = self.bits(width), self.bits(width)
        return tuple(map(unzigzag, (x, self.sized(6), z)))


class FrameReader:
    """Reads the frames of one connection, and knows which to acknowledge."""

    def __init__(self, hz):
        self.hz = hz
        self.forget_everything()

    def forget_everything(self):
        self.newest, self.understood, self.owns, self.states, self.since = None, set(), {}, {}, {}

    def forget(self, handle, since):
        """Frames before `since` mean an earlier bearer of the handle."""
        self.since[handle] = max(since, self.since.get(handle, 0))
        for tick in [tick for (known, tick) in self.states if known == handle and tick < since]:
            del self.states[handle, tick]

    def acks(self):
        if self.newest is None:
            return None
        before = sum(1 << i for i in range(32) if self.newest - 1 - i in self.understood)
        return self.newest & 0xFFFF, before

    def read(self, data, near):
        """The frame, or None if it changes nothing. Raises ValueError for what is no frame."""
        kind, low, acked_input = struct.unpack_from("<BHH", data)
        if kind != 0x01:
            raise ValueError(f"datagram of kind {kind:#04x}")
        bits, tick = BitReader(data[5:]), expand(low, near)
        dilated, _, age = bool(bits.bits(1)), bits.bits(1), bits.bits(6)
        if tick in self.understood or (self.newest is not None and tick < self.newest - 63):
            return None
        own = self.read_own(bits, tick, age)
        states, missing = self.read_entries(bits, tick, age, own)
        is_newest = self.newest is None or tick > self.newest
        if own is not None:
            self.owns[tick] = own
            if not missing:
                self.understood.add(tick)
                self.newest = tick if is_newest else self.newest
        self.states.update({(handle, tick): s for handle, s in states.items() if handle < HIGH_HANDLE})
        self.drop_old(tick)
        if not is_newest or own is None:
            missing = []
        return Frame(tick, acked_input, dilated, own, states, missing)

    def read_own(self, bits, tick, age):
        base = self.owns.get(tick - age) if age else Own((0, 0, 0), (0, 0, 0), 0, 0)
        at, velocity, looks = (0, 0, 0), (0, 0, 0), (0, 0)
        if bits.bits(1):
            at = bits.vector()
            velocity = bits.vector() if bits.bits(1) else velocity
            looks = (bits.bits(8), bits.bits(8)) if bits.bits(1) else looks
        if base is None:
            return None
        moved = [towards_zero(speed * age, self.hz) for speed in base.velocity]
        return Own(
            tuple(old + by + off for old, by, off in zip(base.at, moved, at)),
            tuple(old + off for old, off in zip(base.velocity, velocity)),
            base.mode ^ looks[0],
            base.cooldown ^ looks[1],
        )

    def read_entries(self, bits, tick, age, own):
        states, missing, handle = {}, [], -1
        count = bits.bits(8)
        k = bits.bits(4) if count else 0
        for _ in range(count):
            handle += 1 + bits.rice(k)
            if handle > 0xFFFF:
                raise ValueError("handle out of range")
            behind = bits.ones(5)
            behind = bits.bits(6) if behind == 5 else behind
            change = self.read_change(bits)
            if behind != 63 and (age == 0 or age + behind > 63):
                raise ValueError("an entry's baseline is too old")
            if tick < self.since.get(handle, 0):
                continue
            if behind == 63:
                origin = own and tuple(at // 256 for at in own.at)
                base, base_age = origin and State(origin, (0, 0, 0), 0, 0, 0), 0
            else:
                base_age = age + behind
                base = self.states.get((handle, tick - base_age))
            if base is None:
                missing.append(handle)
            else:
                states[handle] = self.changed(base, base_age, change)
        return states, missing

    def read_change(self, bits):
        x, z = bits.classes(0, 2, 4, 7, numbers=2)
        (y,) = bits.classes(0, 2, 4, 7)
        speed, yaw, looks, mask = [0, 0, 0], 0, (0, 0), 0
        if bits.bits(1):
            mask = bits.bits(4) if bits.bits(1) else 0b0010
        if mask & 1:
            speed[0], speed[2] = map(unzigzag, bits.classes(5, 6, 7, 8, numbers=2))
        if mask & 2:
            speed[1] = unzigzag(*bits.classes(1, 3, 6))
        if mask & 4:
            yaw = unzigzag(*bits.classes(4, 6))
        if mask & 8:
            looks = bits.classes(4) + bits.classes(4)
        return (unzigzag(x), unzigzag(y), unzigzag(z)), speed, yaw, looks

    def changed(self, base, age, change):
        offset, speed, yaw, looks = change
        velocity = tuple(max(-2047, min(2047, old + by)) for old, by in zip(base.velocity, speed))
        moved = [
            towards_zero((old + new) * 4 * age, 2 * self.hz)
            for old, new in zip(base.velocity, velocity)
        ]
        position = tuple(old + by + off for old, by, off in zip(base.position, moved, offset))
        return State(
            position, velocity, (base.yaw + yaw) & 0xFF, base.animation ^ looks[0], base.flags ^ looks[1]
        )

    def drop_old(self, tick):
        oldest = max(tick, self.newest or 0) - KEPT_TICKS
        self.understood = {known for known in self.understood if known >= oldest}
        self.owns = {known: own for known, own in self.owns.items() if known >= oldest}
        self.states = {key: state for key, state in self.states.items() if key[1] >= oldest}


class BitWriter:
    def __init__(self):
        self.word, self.count = 0, 0

    def bits(self, number, count):
        self.word |= (number & (1 << count) - 1) << self.count
        self.count += count

    def axis(self, value):
        short = {0: 0, 127: 1, -127: 2}.get(value)
        self.bits(3 if short is None else short, 2)
        if short is None:
            self.bits(value, 8)

    def bytes(self):
        return self.word.to_bytes((self.count + 7) // 8, "little")


def write_inputs(newest, inputs, announcements, acks=None, lost=(), everything=False, buffer=2):
    """The input datagram; `inputs` stand the newest first."""
    inputs = list(inputs)[:8]
    everything = everything or len(lost) > 8
    lost = () if everything else lost
    bits = BitWriter()
    bits.bits(acks is not None, 1)
    bits.bits(everything, 1)
    bits.bits(len(inputs), 4)
    bits.bits(len(lost), 4)
    if acks is not None:
        bits.bits(acks[0], 16)
        bits.bits(acks[1], 32)
    newer = None
    for each in inputs:
        write_input(bits, each, newer)
        newer = each
    for handle in lost:
        bits.bits(handle, 16)
    return struct.pack("<BHHB", 0x80, newest & 0xFFFF, announcements & 0xFFFF, buffer) + bits.bytes()


def write_input(bits, each, newer):
    if newer is not None:
        bits.bits(each != newer, 1)
        if each == newer:
            return
    axes = newer is None or each[:2] != newer[:2]
    if newer is not None:
        bits.bits(axes, 1)
    if axes:
        bits.axis(each.forward)
        bits.axis(each.right)
    if newer is None:
        bits.bits(each.yaw, 16)
        bits.bits(each.buttons, 8)
        return
    bits.bits(each.yaw != newer.yaw, 1)
    if each.yaw != newer.yaw:
        turn = (each.yaw - newer.yaw + 0x8000 & 0xFFFF) - 0x8000
        bits.bits(zigzag(turn).bit_length(), 5)
        bits.bits(zigzag(turn), zigzag(turn).bit_length())
    bits.bits(each.buttons != newer.buttons, 1)
    if each.buttons != newer.buttons:
        bits.bits(each.buttons, 8)
