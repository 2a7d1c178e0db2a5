"""Holds this client's codecs to the golden vectors of the protocol.

    python examples/python/check_golden.py
"""

import json
import pathlib
import sys

import archive
import frames

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "protocol" / "golden"


def lines(name):
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def plain(value):
    """A value as far as names may differ: variants in any case, bytes as lists."""
    if isinstance(value, dict):
        return {key.lower().replace("_", ""): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, bytes)):
        return [plain(each) for each in value]
    return value.lower().replace("_", "") if isinstance(value, str) else value


def check_messages(name):
    vectors = lines(name)
    for vector in vectors:
        data = bytearray.fromhex(vector["hex"])
        kind, fields = archive.read(*archive.split(data))
        assert not data and plain({kind: fields}) == plain(vector["message"]), vector["name"]
        assert archive.write(kind, **fields).hex() == vector["hex"], vector["name"]
    return len(vectors)


def check_inputs():
    vectors = lines("inputs.jsonl")
    for vector in vectors:
        told = vector["datagram"]
        data = frames.write_inputs(
            told["newest"],
            [frames.Input(**each) for each in told["inputs"]],
            told["announcements"],
            told["acks"] and (told["acks"]["newest"], told["acks"]["before"]),
            told["lost"],
            told["lost_everything"],
            told["buffer_ticks"],
        )
        assert data.hex() == vector["hex"], vector["name"]
    return len(vectors)


def check_frames():
    reader, steps = frames.FrameReader(20), lines("frames.jsonl")
    for number, step in enumerate(steps):
        if "reset" in step:
            reader.forget_everything()
        elif "forget" in step:
            reader.forget(step["forget"], step["since"])
        else:
            frame = reader.read(bytes.fromhex(step["hex"]), step["near"])
            assert shown(frame, reader) == step.get("stale") or shown(frame, reader) == {
                key: value for key, value in step.items() if key not in ("hex", "near")
            }, f"step {number}: {shown(frame, reader)} is not {step}"
    return len(steps)


def shown(frame, reader):
    if frame is None:
        return True
    newest, before = reader.acks() or (None, None)
    own = frame.own and {key: unrolled(value) for key, value in frame.own._asdict().items()}
    states = [
        {"handle": handle, **{key: unrolled(value) for key, value in state._asdict().items()}}
        for handle, state in frame.states.items()
    ]
    acks = {"newest": newest, "before": before}
    return {**frame._asdict(), "own": own, "states": states, "acks": acks}


def unrolled(value):
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    counts = check_messages("client.jsonl"), check_messages("server.jsonl"), check_inputs(), check_frames()
    print("golden vectors read and written: %d + %d messages, %d inputs, %d frame steps" % counts)
    sys.exit(0)
