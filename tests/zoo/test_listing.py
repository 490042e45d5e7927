"""`boli zoo list`: what boli knows, and ESPnet's model zoo by its own table."""

import json

import pytest

from zoo import cache, manager
from zoo.sources import espnet_table

NAME = "kamo-naoyuki/mini_an4_asr_train_raw_bpe_valid.acc.best"


def test_the_table_that_the_package_ships(monkeypatch):
    monkeypatch.delenv(espnet_table.VARIABLE, raising=False)
    rows = espnet_table.rows()
    assert len(rows) == len({row.name for row in rows}) == 152
    assert all(cache.is_name(row.name) for row in rows if row.task)
    row = espnet_table.find("Shinji Watanabe/gigaspeech_asr_train_asr_raw_en_bpe5000_valid.acc.ave")
    assert row == espnet_table.find("Shinji-Watanabe/gigaspeech_asr_train_asr_raw_en_bpe5000_valid.acc.ave")
    assert (row.task, row.corpus, row.languages, row.rate_hz) == ("asr", "gigaspeech", ("en",), 16_000)
    assert row.url.startswith("https://zenodo.org/record/")
    assert [row.title for row in rows if not row.url] == [
        "byan/librispeech_asr_train_asr_conformer_raw_bpe_batch_bins30000000_accum_grad3_optim_conflr0.001_sp"
    ]
    assert espnet_table.find("kan-bayashi/vctk_gst+xvector_tacotron2").name == "kan-bayashi/vctk_gst-xvector_tacotron2"
    assert sum(not row.valid for row in rows) == 2


@pytest.mark.parametrize(
    ("arguments", "count", "name"),
    [
        (["--task", "asr", "--language", "ja"], 3, "kan-bayashi/csj_asr_train_asr_transformer_raw_char_sp_valid.acc.ave"),
        (["--task", "ASR", "--language", "jp"], 3, "kan-bayashi/csj_asr_train_asr_transformer_raw_char_sp_valid.acc.ave"),
        (["--corpus", "librispeech", "--task", "asr", "conformer"], 5, None),
        (["SHINJI", "gigaspeech"], 1, "Shinji-Watanabe/gigaspeech_asr_train_asr_raw_en_bpe5000_valid.acc.ave"),
        (["gst+xvector", "vctk", "--task", "tts"], 6, "kan-bayashi/vctk_gst-xvector_transformer"),
        (["no-such-model"], 0, None),
    ],
)  # fmt: skip
def test_search(home, boli, monkeypatch, arguments, count, name):
    monkeypatch.delenv(espnet_table.VARIABLE, raising=False)
    code, out, _ = boli("zoo", "list", "--source", "espnet", *arguments, "--json")
    found = json.loads(out)
    assert (code, len(found)) == (0, count)
    assert name is None or name in {row["name"] for row in found}
    lines = boli("zoo", "list", "--source", "espnet", *arguments)[1].splitlines()
    assert lines[0].split() == ["NAME", "TASK", "CORPUS", "LANGUAGE", "HZ", "FROM", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == [row["name"] for row in found]


def test_models_with_a_card_are_listed_with_their_task(home, boli, monkeypatch):
    from zoo.card import Card

    card = Card("espnet/owsm_v4_small_370M", "owsm", "hub:espnet/owsm_v4_small_370M", languages=("en", "te"))
    monkeypatch.setattr(manager, "cards", lambda: {card.name: card})
    for arguments in (["--task", "s2t"], ["--language", "te"], ["owsm"]):
        found = json.loads(boli("zoo", "list", "--source", "espnet", *arguments, "--json")[1])
        assert [(row["name"], row["task"]) for row in found] == [(card.name, "s2t")], arguments


def test_filters_of_the_other_list(home, boli, advised):
    names = [line.split()[0] for line in boli("zoo", "list", "whisper", "large", "--language", "hi")[1].splitlines()]
    assert names[0] == "NAME"
    assert "openai/whisper-large-v3" in names
    assert all("large" in name for name in names[1:])
    code, _, err = boli("zoo", "list", "--task", "tts", "--corpus", "jsut")
    assert code == 1
    assert "Only ESPnet's models are listed by task or corpus" in err
    code, out, _ = advised(err)
    assert code == 0
    assert len(out.splitlines()) > 20
    code, _, err = boli("zoo", "list", "--source", "hub")
    assert code == 1
    assert "No list is called 'hub'. Valid: boli, espnet" in err


def test_no_table_and_a_broken_one(home, boli, monkeypatch, tmp_path):
    monkeypatch.setattr(espnet_table, "path", lambda: None)
    code, _, err = boli("zoo", "list", "--source", "espnet")
    assert code == 1
    assert "is not installed" in err
    assert espnet_table.find(NAME) is None
    monkeypatch.undo()
    for content, why in (("name,url\na/b,x\n", "it has no column 'lang'"), (b"\xff\xfe\0", "codec"), (None, "No such")):
        file = tmp_path / f"{why[:2]}.csv"
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv(espnet_table.VARIABLE, str(file))
        code, _, err = boli("zoo", "list", "--source", "espnet")
        assert code == 1
        assert why in err
        assert f"unset {espnet_table.VARIABLE}" in err
