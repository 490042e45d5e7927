import json

import pytest

from adapters.record import Record, Score
from zoo.errors import AdapterError

RECORD = Record(
    "openai/whisper-small", "hi", 16, "seed1", "0123456789ab", scores=(Score("wer", 0.2, 100, "abc", "raw", "greedy"),)
)


def test_a_record_comes_back_as_it_was():
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert Record.from_json(Record("toy", "te", 4, notes="నోట్").to_json()).notes == "నోట్"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": "8"}, "rank is '8'"),
        ({"scores": {"a": 1}}, "scores is"),
        ({"scores": [{"metric": "wer"}]}, "missing"),
        ({"surprise": 1}, "unknown keys 'surprise'"),
        ({"language": "HI"}, "no BCP-47 tag"),
        ({"created": None}, "created is None"),
    ],
)
def test_what_is_no_record_is_named(change, message):
    with pytest.raises(AdapterError) as caught:
        Record.from_json(json.dumps(json.loads(RECORD.to_json()) | change), "/st öre/v/record.json")
    assert message in str(caught.value)
    assert "boli adapters rm '/st öre/v'" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "\x00\x01", "[" * 100_000])
def test_garbage_is_an_adapter_error(text):
    with pytest.raises(AdapterError, match="cannot be read"):
        Record.from_json(text)
