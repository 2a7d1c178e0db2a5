"""A client of an Ecumene server: comes in, walks, looks, speaks, and says what it sees as JSON lines.

    python examples/python/client.py 127.0.0.1:4433 --key SERVER_KEY --say "Good morning"

Written from docs/wire.md alone; see README.md in this folder.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived

import archive
import frames
import trust

INPUT_PHASE_S = 0.024
CHUNKS = 1


def tell(event, **fields):
    """Prints what happened, one JSON object per line."""
    shown = lambda value: value.hex() if isinstance(value, bytes) else str(value)
    print(json.dumps({"event": event, **fields}, default=shown), flush=True)


class Client(QuicConnectionProtocol):
    """One stay: the control stream, the frames and the inputs."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.options = None
        self.control, self.control_stream, self.chunks = bytearray(), None, {}
        self.welcome, self.reader, self.view = None, None, {}
        self.announcements, self.newest_tick = 0, 0
        self.inputs, self.newest_input = [], 0
        self.lost, self.everything = [], False
        self.request = 0
        self.ended = asyncio.get_running_loop().create_future()
        self.entered = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        try:
            if isinstance(event, StreamDataReceived):
                self.stream_received(event)
            elif isinstance(event, DatagramFrameReceived):
                self.datagram_received_from_server(event.data)
            elif isinstance(event, ConnectionTerminated):
                self.end(event.error_code, event.reason_phrase)
        except (archive.Malformed, UnicodeDecodeError, trust.Untrusted) as problem:
            tell("error", why=str(problem))
            self.close(error_code=13)
            self.end(13, str(problem))

    def end(self, code, why):
        for future in (self.ended, self.entered):
            if not future.done():
                future.set_result(code)
                if future is self.ended:
                    tell("ended", code=code, why=why)

    # The control stream.

    def stream_received(self, event):
        if event.stream_id % 4 == 3:
            return self.chunk_received(event)
        self.control_stream = event.stream_id
        self.control += event.data
        while frame := archive.split(self.control):
            message = archive.read(*frame)
            if message is not None:
                handle = getattr(self, "on_" + message[0].lower(), None)
                handle(message[1]) if handle else tell(message[0].lower(), **message[1])

    def send(self, name, /, **fields):
        self._quic.send_stream_data(self.control_stream, archive.write(name, **fields))
        self.transmit()

    def on_greeting(self, greeting):
        tls = self._quic.tls
        server_key = trust.check_server(
            tls._peer_certificate, tls._peer_certificate_chain, self.options.key
        )
        identity = trust.load_identity(self.options.identity) if self.options.identity else None
        tell("greeting", server_key=server_key, software=greeting["software"], worlds=greeting["worlds"])
        self.send(
            "Hello", minor=1, features=CHUNKS, world=None, name=self.options.name,
            software="ecumene-python/1",
            identity=identity and trust.prove(identity, server_key, greeting["nonce"]),
            token=None, resume=None, drive=None, capabilities=[],
        )

    def on_welcome(self, welcome):
        self.welcome, self.newest_tick = welcome, welcome["tick"]
        self.reader = frames.FrameReader(welcome["hz"])
        told = {key: welcome[key] for key in ("person", "avatar", "role", "tick", "hz", "position")}
        tell("welcome", world=welcome["world"]["name"], **told)
        x, z = (welcome["position"][axis] // 6_400 for axis in "xz")
        self.send("Want", chunks=[{"level": 0, "x": x, "z": z}])
        self.entered.set_result(None)

    def on_farewell(self, farewell):
        tell("farewell", **farewell)

    def on_announce(self, announce):
        self.announcements += 1
        for handle in announce["vanish"]:
            self.reader.forget(handle, announce["since"])
            gone = self.view.pop(handle, None)
            if gone:
                tell("vanish", handle=handle, entity=gone["entity"])
        for appear in announce["appear"]:
            self.appear(announce["since"], **appear)

    def appear(self, since, handle, entity, being, position, yaw, flags):
        if self.view.get(handle, {}).get("entity") != entity:
            self.reader.forget(handle, since)
        kind, about = next(iter(being.items()))
        self.view[handle] = {"entity": entity, "name": about.get("name")}
        place = [position[axis] for axis in "xyz"]
        tell("appear", handle=handle, entity=entity, what=kind, name=about.get("name"), position=place)

    def on_heard(self, heard):
        words = " ".join(clause["text"] for clause in heard["utterance"]["clauses"])
        tell("heard", person=heard["person"], name=heard["name"], words=words)

    def chunk_received(self, event):
        stream = self.chunks.setdefault(event.stream_id, bytearray())
        stream += event.data
        if event.end_stream:
            data = self.chunks.pop(event.stream_id)
            _, chunk = archive.read(*archive.split(data))
            is_whole = len(data) == chunk["length"] and data[:4] == b"ECHK"
            tell("chunk", id=chunk["id"], bytes=len(data), is_whole=is_whole)

    # Datagrams.

    def datagram_received_from_server(self, data):
        if self.reader is None or not data or data[0] != 0x01:
            return
        try:
            frame = self.reader.read(data, self.newest_tick)
        except (ValueError, IndexError, archive.struct.error) as problem:
            return tell("bad-frame", why=str(problem))
        if frame is None:
            return
        self.newest_tick = max(self.newest_tick, frame.tick)
        self.lost += frame.missing
        if frame.own is None:
            self.everything = True
        else:
            position = [at / 256 for at in frame.own.at]
            tell("own", tick=frame.tick, position=position, acked_input=frame.acked_input)
        for handle, state in frame.states.items():
            if handle in self.view:
                self.tell_seen(frame.tick, self.view[handle], state)

    def tell_seen(self, tick, seen, state):
        tell(
            "seen", tick=tick, entity=seen["entity"], name=seen["name"], position=state.position,
            velocity_cm_s=[4 * step for step in state.velocity], yaw=state.yaw,
            animation=state.animation,
        )

    def steer(self, wanted):
        """Sends one input, with the newest ones again and what frames need in return."""
        self.newest_input += 1
        self.inputs = [wanted, *self.inputs][:8]
        if self.everything or len(self.lost) > 8:
            self.everything = True
            self.reader.forget_everything()
        data = frames.write_inputs(
            self.newest_input, self.inputs, self.announcements, self.reader.acks(), self.lost,
            self.everything,
        )
        self.lost, self.everything = [], False
        self._quic.send_datagram_frame(data)
        self.transmit()

    # What it does.

    def say(self, words):
        self.request += 1
        clause = {
            "text": words, "emotion": "Warm", "intensity": 128, "gesture": "Wave", "gaze": "Listener",
            "start_ms": 0, "duration_ms": 0,
        }
        self.send("Say", request=self.request, to="Nearby", utterance={"clauses": [clause]})

    async def live(self):
        """Walks for a while, speaks in the middle of the stay, and leaves."""
        options, began, spoken = self.options, time.monotonic(), False
        period, due = 1 / self.welcome["hz"], time.monotonic() + INPUT_PHASE_S
        while not self.ended.done() and time.monotonic() - began < options.seconds:
            elapsed = time.monotonic() - began
            forward = 127 if elapsed < options.walk else 0
            self.steer(frames.Input(forward=forward, yaw=options.yaw))
            if options.say and not spoken and elapsed > options.seconds / 2:
                self.say(options.say)
                spoken = True
            due += period
            await asyncio.sleep(max(0, due - time.monotonic()))
        if not self.ended.done():
            self.send("Leave", sleep=False)
            await asyncio.wait([self.ended], timeout=3)


async def run(options):
    host, _, port = options.address.rpartition(":")
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["ecumene/1"], server_name="ecumene",
        max_datagram_frame_size=65_536, idle_timeout=15,
        # No public authority counts: trust.check_server does what is needed instead.
        verify_mode=ssl.CERT_NONE,
    )
    opening = connect(host.strip("[]"), int(port), configuration=configuration, create_protocol=Client, wait_connected=False)
    async with opening as client:
        client.options = options
        client.transmit()
        await asyncio.wait([client.entered], timeout=15)
        if client.welcome is None:
            return 1
        await client.live()
        return 0 if client.ended.done() and client.ended.result() == 0 else 1


def parse(arguments):
    parser = argparse.ArgumentParser(description="Visits an Ecumene server and prints JSON lines.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--key", type=bytes.fromhex, metavar="HEX", help="the server's identity, as it prints it")
    parser.add_argument("--identity", metavar="FILE", help="one's own key, made if missing; without: a guest")
    parser.add_argument("--name", default="Python")
    parser.add_argument("--seconds", type=float, default=6, help="how long to stay")
    parser.add_argument("--walk", type=float, default=2, metavar="SECONDS", help="how long to walk")
    parser.add_argument("--yaw", type=int, default=0x4000, help="where to walk: 0 north, 16384 east")
    parser.add_argument("--say", metavar="WORDS")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(parse(sys.argv[1:]))))
