"""Message bodies: how values lie in bytes, and what each message holds.

Follows docs/wire.md: "How bodies lie", "What clients say", "What servers say", "Parts". Structs are
dicts, choices the variant's name or {name: value}, missing optionals None, lists of u8 bytes.
"""

import struct


class Malformed(Exception):
    """Bytes that are not laid out as their kind demands."""


class Number:
    def __init__(self, code):
        self.code, self.size = "<" + code, struct.calcsize("<" + code)

    def read(self, body, at):
        return struct.unpack_from(self.code, body, at)[0]

    def lay_out(self, value, out):
        return None

    def emit(self, value, _, out):
        out += struct.pack(self.code, value)


class Bool(Number):
    def __init__(self):
        super().__init__("B")

    def read(self, body, at):
        if body[at] > 1:
            raise Malformed(f"bool is {body[at]}")
        return body[at] == 1


class Array:
    """N x T."""

    def __init__(self, count, item):
        self.count, self.item, self.size = count, item, count * item.size

    def read(self, body, at):
        if self.item is U8:
            return bytes(body[at : at + self.count])
        return [self.item.read(body, at + i * self.item.size) for i in range(self.count)]

    def lay_out(self, value, out):
        return [self.item.lay_out(each, out) for each in value]

    def emit(self, value, places, out):
        for each, place in zip(value, places):
            self.item.emit(each, place, out)


class List:
    size = 8

    def __init__(self, item):
        self.item = item

    def read(self, body, at):
        offset, count = struct.unpack_from("<iI", body, at)
        start = at + offset
        if start < 0 or start + count * self.item.size > len(body):
            raise Malformed("list reaches outside the body")
        return Array(count, self.item).read(body, start)

    def lay_out(self, value, out):
        places = [self.item.lay_out(each, out) for each in value]
        start = len(out)
        for each, place in zip(value, places):
            self.item.emit(each, place, out)
        return start

    def emit(self, value, start, out):
        out += struct.pack("<iI", start - len(out), len(value))


class Text:
    size = 8

    def read(self, body, at):
        if body[at] & 0xC0 != 0x80:
            return body[at : at + 8].split(b"\xff")[0].decode()
        coded, offset = struct.unpack_from("<Ii", body, at)
        length, start = coded & 0x3F | (coded & ~0xFF) >> 2, at + offset
        if start < 0 or start + length > len(body):
            raise Malformed("string reaches outside the body")
        return body[start : start + length].decode()

    def lay_out(self, value, out):
        start, raw = len(out), value.encode()
        if len(raw) > 8:
            out += raw
        return start

    def emit(self, value, start, out):
        raw = value.encode()
        if len(raw) <= 8:
            out += raw.ljust(8, b"\xff")
        else:
            coded = len(raw) & 0x3F | 0x80 | len(raw) >> 6 << 8
            out += struct.pack("<Ii", coded, start - len(out))


class Optional:
    def __init__(self, item):
        self.item, self.size = item, 1 + item.size

    def read(self, body, at):
        if body[at] > 1:
            raise Malformed(f"optional has tag {body[at]}")
        return self.item.read(body, at + 1) if body[at] else None

    def lay_out(self, value, out):
        return None if value is None else self.item.lay_out(value, out)

    def emit(self, value, place, out):
        if value is None:
            out += bytes(self.size)
        else:
            out.append(1)
            self.item.emit(value, place, out)


class Struct:
    def __init__(self, **fields):
        self.fields, self.size = fields, sum(field.size for field in fields.values())

    def read(self, body, at):
        value = {}
        for name, field in self.fields.items():
            value[name] = field.read(body, at)
            at += field.size
        return value

    def lay_out(self, value, out):
        return [field.lay_out(value[name], out) for name, field in self.fields.items()]

    def emit(self, value, places, out):
        for (name, field), place in zip(self.fields.items(), places):
            field.emit(value[name], place, out)


class Choice:
    """Variants in the order of their tags: a name, or (name, type)."""

    def __init__(self, *variants):
        self.variants = [v if isinstance(v, tuple) else (v, Struct()) for v in variants]
        self.size = 1 + max(held.size for _, held in self.variants)

    def read(self, body, at):
        if body[at] >= len(self.variants):
            raise Malformed(f"choice has tag {body[at]}, {len(self.variants)} are known")
        name, held = self.variants[body[at]]
        return {name: held.read(body, at + 1)} if held.size else name

    def split(self, value):
        """The tag, the type and the value behind it."""
        name, inner = next(iter(value.items())) if isinstance(value, dict) else (value, {})
        tag = [known for known, _ in self.variants].index(name)
        return tag, self.variants[tag][1], inner

    def lay_out(self, value, out):
        _, held, inner = self.split(value)
        return held.lay_out(inner, out)

    def emit(self, value, place, out):
        tag, held, inner = self.split(value)
        end = len(out) + self.size
        out.append(tag)
        held.emit(inner, place, out)
        out += bytes(end - len(out))


U8, U16, U32, U64, I32 = (Number(code) for code in "BHIQi")
BOOL, TEXT, BYTES, HASH = Bool(), Text(), List(U8), Array(32, U8)
ID = PERSON = TICK = U64
KIND = RECIPE = YAW = U16

POSITION = Struct(x=I32, y=I32, z=I32)
CHUNK_ID = Struct(level=U8, x=I32, z=I32)
CAPABILITY = Struct(name=TEXT, value=TEXT)
WORLD = Struct(id=ID, name=TEXT, rating=TEXT)
APPEARANCE = Struct(model=Optional(HASH), height_cm=U8, build=U8, colours=Array(5, Array(3, U8)), recipe=BYTES)
MOTION = Struct(
    hz=U16, walk_cm_s=U16, run_cm_s=U16, swim_cm_s=U16, fly_cm_s=U16, jump_cm_s=U16,
    gravity_cm_s2=U16, acceleration_cm_s2=U16, air_acceleration_cm_s2=U16, slope_permille=U16,
    step_cm=U16, sea_level_cm=I32, fly=BOOL, half_width_cm=I32, ceiling_cm=I32,
)
LOT = Struct(kind=KIND, count=U32)
PORTION = Struct(thing=ID, count=U32)
LENDING = Struct(avatar=ID, to=PERSON, ends_at=U64)
EMOTE = Choice(
    "Wave", "Bow", "Nod", "Shake", "Point", "Clap", "Dance", "Sit", "Shrug", "Laugh", "Cry",
    "Salute", "Beckon", "Think",
)
EMOTION = Choice("Neutral", "Happy", "Sad", "Angry", "Afraid", "Surprised", "Disgusted", "Warm", "Unsure")
GAZE = Choice("Listener", "Away", ("At", ID))
CLAUSE = Struct(
    text=TEXT, emotion=EMOTION, intensity=U8, gesture=Optional(EMOTE), gaze=GAZE, start_ms=U32,
    duration_ms=U32,
)
UTTERANCE = Struct(clauses=List(CLAUSE))
AUDIENCE = Choice("Nearby", "Whisper", ("Person", PERSON), ("Channel", TEXT))
VERB = Choice(
    "Take", "Drop", "Put", "Give", "Offer", "Accept", "Decline", "Withdraw", "Use", "Open", "Close",
    "Lock", "Gather", "Make", "Build", "Read", "Write", "Greet", "Emote", "Say", "Stop",
)
ARGS = Choice(
    "None", ("Count", U32), ("Spot", Struct(count=U32, at=POSITION, yaw=YAW)), ("Moved", PORTION),
    ("Deal", Struct(give=List(PORTION), want=List(LOT))), ("Offer", ID), ("Recipe", RECIPE),
    ("Site", Struct(recipe=RECIPE, at=POSITION, yaw=YAW)), ("Text", TEXT), ("Emote", EMOTE),
    ("Say", UTTERANCE),
)
ACT = Struct(verb=VERB, target=Optional(ID), args=ARGS)
DETAIL = Choice(
    "None", ("Lot", LOT), ("Made", Struct(recipe=RECIPE, output=LOT)), ("Offered", ID),
    ("Traded", Struct(offer=ID, gave=List(LOT), got=List(LOT))), ("Wrote", TEXT), ("Emote", EMOTE),
    ("Said", UTTERANCE), ("Switched", BOOL),
)
EVENT = Struct(
    id=U64, tick=TICK, place=POSITION, actor=ID, verb=VERB, phase=Choice("Done", "Began", "Stopped"),
    target=Optional(ID), reach_cm=U32, detail=DETAIL,
)
BEING = Choice(
    ("Avatar", Struct(person=PERSON, name=TEXT, appearance=APPEARANCE)),
    ("Thing", Struct(kind=KIND, count=U32, text=Optional(TEXT))),
)
APPEAR = Struct(handle=U16, entity=ID, being=BEING, position=POSITION, yaw=YAW, flags=U8)
NOTE = Struct(by=Optional(ID), tick=TICK, text=TEXT)
STATE = Struct(open=BOOL, locked=BOOL, lit=BOOL, gathered=U32, ready_at=TICK, notes=List(NOTE))
HOLDER = Choice(("Held", ID), ("Inside", ID), ("Placed", Struct(at=POSITION, yaw=YAW)))
THING = Struct(id=ID, kind=KIND, count=U32, holder=HOLDER, owner=Optional(ID), state=STATE)
OFFER = Struct(
    id=ID, **{"from": ID}, to=ID, give=List(PORTION), give_lots=List(LOT), want=List(LOT), until=TICK
)
UNTIL, COUNTED, AT_MOST = Struct(until=TICK), Struct(kind=KIND, count=U32), Struct(max=U32)
WHY = Choice(
    ("TooFar", Struct(cm=U32, reach_cm=U32)), "NotThere", "NoTarget", "BadArgs", "NotPossible",
    ("NotHolding", Struct(held=U32)), ("Full", Struct(stacks_max=U32)), "NoRoom", ("Busy", UNTIL),
    "Locked", "Closed", "Already", ("Spent", UNTIL), "NoSuchRecipe",
    ("NeedsStation", Struct(station=KIND)), ("Missing", COUNTED), ("TheyLack", COUNTED), "NotYours",
    "NotPortable", "NoSuchOffer", ("TooManyOffers", AT_MOST), ("TooMuchBuilt", AT_MOST), "Muted",
    "OutOfOrder", ("TextTooLong", Struct(chars=U32)), "BadText", "BadUtterance", "Idle", "Forbidden",
    ("TooMany", Struct(retry_ms=U32)), "Interrupted",
)
PROOF = Struct(key=Array(32, U8), signature=Array(64, U8))

MESSAGES = {
    0x8001: ("Hello", Struct(
        minor=U16, features=U64, world=Optional(ID), name=TEXT, software=TEXT,
        identity=Optional(PROOF), token=Optional(BYTES), resume=Optional(BYTES), drive=Optional(ID),
        capabilities=List(CAPABILITY),
    )),
    0x8002: ("Do", Struct(request=U32, act=ACT)),
    0x0003: ("Cancel", Struct(request=U32)),
    0x8004: ("Say", Struct(request=U32, to=AUDIENCE, utterance=UTTERANCE)),
    0x0005: ("Tune", Struct(channel=TEXT, joined=BOOL)),
    0x0006: ("Wear", Struct(appearance=APPEARANCE)),
    0x0007: ("Ignore", Struct(person=PERSON, degree=Choice("None", "Mute", "Block"))),
    0x8008: ("Lend", Struct(request=U32, lending=LENDING)),
    0x8009: ("Recall", Struct(request=U32, avatar=ID, to=PERSON)),
    0x000A: ("Want", Struct(chunks=List(CHUNK_ID))),
    0x000B: ("Leave", Struct(sleep=BOOL)),
    0x8100: ("Greeting", Struct(minor=U16, features=U64, nonce=HASH, worlds=List(WORLD), software=TEXT)),
    0x8101: ("Welcome", Struct(
        session=ID, resumed=BOOL, person=PERSON, avatar=ID, role=TEXT, world=WORLD, rules=HASH,
        features=U64, tick=TICK, hz=U16, pace_permille=U16, motion=MOTION, position=POSITION, yaw=YAW,
        appearance=APPEARANCE, ticket=BYTES, capabilities=List(CAPABILITY),
    )),
    0x8102: ("Farewell", Struct(code=U32, why=TEXT, retry_after_s=Optional(U32))),
    0x8103: ("Announce", Struct(since=TICK, vanish=List(U16), appear=List(APPEAR))),
    0x8104: ("Done", Struct(request=U32, tick=TICK, text=Optional(TEXT))),
    0x8105: ("Refused", Struct(request=U32, why=WHY)),
    0x0106: ("Begun", Struct(request=U32, until=TICK)),
    0x0107: ("Happened", Struct(events=List(EVENT))),
    0x0108: ("Heard", Struct(
        tick=TICK, person=PERSON, avatar=Optional(ID), name=TEXT, to=AUDIENCE, utterance=UTTERANCE
    )),
    0x8109: ("Holding", Struct(tick=TICK, things=List(THING))),
    0x010A: ("Offered", Struct(offer=OFFER)),
    0x010B: ("OfferEnded", Struct(offer=ID, end=Choice("Accepted", "Declined", "Withdrawn", "Expired"))),
    0x010C: ("Notice", Struct(text=TEXT)),
    0x010D: ("Stopping", Struct(in_ms=U32, why=TEXT)),
    0x810E: ("Pace", Struct(permille=U16, **{"from": TICK})),
    0x810F: ("Redirect", Struct(address=TEXT, ticket=BYTES)),
    0x0110: ("Ticket", Struct(ticket=BYTES)),
    0x0111: ("Chunk", Struct(id=CHUNK_ID, hash=HASH, length=U32)),
}
KINDS = {name: kind for kind, (name, _) in MESSAGES.items()}


def write(name, /, **fields):
    """The frame of a message."""
    kind = KINDS[name]
    body, root = bytearray(), MESSAGES[kind][1]
    root.emit(fields, root.lay_out(fields, body), body)
    head, length = bytearray(struct.pack("<H", kind)), len(body)
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head + body)


def split(stream, length_max=64 * 1024):
    """Takes the first whole frame out of a bytearray: (kind, body), or None until more arrives."""
    length = 0
    for index, byte in enumerate(stream[2:6]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            start = 3 + index
            break
    else:
        if len(stream) >= 6:
            raise Malformed("a length of more than four bytes")
        return None
    if length > length_max:
        raise Malformed(f"a body of {length} bytes, at most {length_max}")
    if len(stream) < start + length:
        return None
    kind, body = stream[0] | stream[1] << 8, bytes(stream[start : start + length])
    del stream[: start + length]
    return kind, body


def read(kind, body):
    """The name and fields of a message; None for a kind that is unknown and may be skipped."""
    if kind not in MESSAGES:
        if kind & 0x8000:
            raise Malformed(f"kind {kind:#06x} is required but unknown")
        return None
    name, root = MESSAGES[kind]
    if len(body) < root.size:
        raise Malformed(f"{name} in {len(body)} bytes, at least {root.size}")
    return name, root.read(body, len(body) - root.size)
