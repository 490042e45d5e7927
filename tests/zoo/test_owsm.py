"""Family owsm: what it refuses to load, what it loads, its loss, and what it needs of ESPnet."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import zoo
from tests import espnet_reference, toy, toy_owsm
from zoo import debug_owsm, owsm_files
from zoo.errors import ModelError
from zoo.espnet_import import quietly
from zoo.interface import DecodeOptions
from zoo.owsm_family import family
from zoo.registry import family_of


@pytest.fixture(scope="module")
def trained() -> Path:
    return toy_owsm.folder()


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


def load(folder: Path, **options):
    return family.load(folder, family.card(folder, "toy"), **options)


def change(folder: Path, edit) -> None:
    state = torch.load(folder / debug_owsm.WEIGHTS, weights_only=True)
    torch.save(edit(dict(state)) or state, folder / debug_owsm.WEIGHTS)


def reconfigure(folder: Path, **entries) -> None:
    path = folder / debug_owsm.CONFIG
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **entries}, allow_unicode=True))


NAME = "decoder.decoders.0.feed_forward.w_1.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != NAME}, rf"do not fit its config: {NAME} is missing"),
        (lambda s: {**s, "decoder.extra": torch.zeros(1)}, r"decoder\.extra has no place"),
        (lambda s: {**s, NAME: s[NAME][:64]}, rf"{NAME} \(64, 64\) for \(128, 64\)"),
        (lambda s: {**s, NAME: s[NAME] * float("nan")}, rf"{NAME} of toy is not finite"),
        (lambda s: {f"garbage.{i}": torch.zeros(2) for i in range(9)}, r"is missing; .* more\."),
        (lambda s: {"state": [1, 2, 3]}, "is no state dict"),
    ],
    ids=["missing", "left over", "shape", "not finite", "garbage", "no tensors"],
)
def test_weights_that_do_not_fit_are_refused(folder, edit, message):
    """All of these ESPnet loads without a word, or with a traceback."""
    change(folder, edit)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_a_pickle_that_would_run_code_is_refused(folder):
    class Payload:
        def __reduce__(self):
            return os.system, ("touch " + str(folder / "ran"),)

    torch.save({"x": Payload()}, folder / debug_owsm.WEIGHTS)
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)
    assert not (folder / "ran").exists()


def test_a_truncated_checkpoint_is_refused(folder):
    path = folder / debug_owsm.WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)


def test_deepspeeds_wrapping_is_undone(folder):
    change(folder, lambda state: {"module": state})
    assert load(folder).weights_sha256


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"encoder": "rnn"}, "encoder 'rnn' .*Valid: e_branchformer, transformer, conformer"),
        ({"decoder": "rnn"}, "decoder 'rnn' .*Valid: transformer"),
        ({"frontend": "s3prl"}, "frontend 's3prl'"),
        ({"token_type": "phn"}, "token_type 'phn'"),
        ({"preencoder": "sinc"}, "preencoder='sinc'"),
        ({"promptencoder": "transformer"}, "OWSM-CTC"),
        ({"bpemodel": "data/other.model"}, r"needs data/other\.model.*copy other\.model into"),
        ({"encoder_conf": {"output_size": 64, "size": 3}}, "cannot be built from .*TypeError.*size"),
        ({"encoder_conf": {"input_layer": "linear"}}, "input layer 'linear'"),
        ({"frontend_conf": {"fs": 8000}}, "hears audio at 8000 Hz"),
        ({"token_list": ["<blank>", "<unk>"]}, r"cannot be built from .*<sos>|no token"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_it_cannot_serve_is_refused(folder, entries, message):
    reconfigure(folder, **entries)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_files_outside_the_folder_are_never_read(folder, tmp_path):
    (tmp_path / "secret.model").write_bytes((folder / debug_owsm.BPE).read_bytes())
    reconfigure(folder, bpemodel="../secret.model")
    with pytest.raises(ModelError, match=r"needs .*secret\.model"):
        load(folder)


def test_a_plain_experiment_folder(trained, tmp_path):
    """config.yaml, one checkpoint, bpe.model and statistics side by side, as people copy them together."""
    for name in (debug_owsm.CONFIG, debug_owsm.WEIGHTS, debug_owsm.BPE, debug_owsm.STATS):
        shutil.copy(trained / name, tmp_path)
    assert family_of(tmp_path) is family
    base = zoo.load(str(tmp_path), context="dynamic")
    assert base.weights_sha256 == load(trained).weights_sha256
    assert base.tokenizer_sha256 == load(trained).tokenizer_sha256
    shutil.copy(trained / debug_owsm.WEIGHTS, tmp_path / "1epoch.pth")
    with pytest.raises(ModelError, match=r"has 2 checkpoints .*1epoch\.pth.*move the others"):
        zoo.load(str(tmp_path))


def test_what_espnet_packs_and_unpacks_loads_by_path(trained, tmp_path, monkeypatch):
    """`pack` writes an archive; ESPnet's `unpack` rewrites the config with the paths of this machine."""
    from espnet2.main_funcs import pack_funcs

    monkeypatch.setenv("BOLI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(trained)
    archive = tmp_path / "packed.zip"
    with quietly():
        pack_funcs.pack(
            {"s2t_model_file": debug_owsm.WEIGHTS},
            {"s2t_train_config": debug_owsm.CONFIG},
            archive,
            option=[debug_owsm.BPE, debug_owsm.STATS],
        )
        pack_funcs.unpack(archive, tmp_path / "unpacked")
    monkeypatch.chdir(tmp_path)
    clip, _, language = toy.clips(1, ("en",), seed=5)[0]
    texts = set()
    for place in (trained, tmp_path / "unpacked", archive):
        base = zoo.load(str(place), context="dynamic")
        assert base.card.family == "owsm"
        texts.add(base.decode(base.encode(base.features([clip])), [language])[0].text)
    assert len(texts) == 1
    assert texts != {""}


def test_a_fine_tuned_model_is_saved_as_espnet_wants_it(trained, tmp_path):
    base = load(trained, context="dynamic")
    with torch.no_grad():
        base.module.decoder.output_layer.bias.add_(0.5)
    base.save(tmp_path / "saved")
    again = load(tmp_path / "saved", context="dynamic")
    assert torch.equal(again.module.decoder.output_layer.bias, base.module.decoder.output_layer.bias)
    assert again.weights_sha256 != base.weights_sha256
    espnet_reference.recogniser(tmp_path / "saved", tmp_path)


def test_the_loss_is_espnets(trained):
    base = load(trained, context="30s")
    made = toy.clips(3, ("en", "hi"), seed=6)
    texts, languages = [text for _, text, _ in made], [lang for _, _, lang in made]
    labels = base.labels(texts, languages)
    network = base.module
    audio = torch.zeros(3, round(base.max_duration_s * 16_000))
    for row, (utterance, _, _) in zip(audio, made, strict=True):
        row[: len(utterance.audio)] = torch.from_numpy(utterance.audio)
    rows = [row[row != -100][:-1] for row in labels]
    text = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    ctc = torch.nn.utils.rnn.pad_sequence([row[3:] for row in rows], batch_first=True, padding_value=-1)
    lengths = torch.tensor([len(row) for row in rows])
    with torch.no_grad(), quietly():
        theirs, _, _ = network(
            audio, torch.full((3,), audio.shape[1]), text, lengths,
            torch.full((3, 1), network.na), torch.ones(3, dtype=torch.long), ctc, lengths - 3,
        )  # fmt: skip
    with torch.no_grad():
        ours = base.loss(base.features([u for u, _, _ in made]), labels)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_previous_text_stands_before_the_prompt_as_in_espnet(tmp_path):
    folder = toy_owsm.folder("v3.1")
    base = espnet_reference.loaded(folder)
    recogniser = espnet_reference.recogniser(folder, tmp_path, beam_size=3)
    for utterance, _, _ in toy.clips(3, ("en",), seed=9):
        with quietly():
            theirs = recogniser(utterance.audio[:16_000], text_prev="abc fed", lang_sym="<eng>")[0][-1]
        clip = type(utterance)(utterance.audio[:16_000])
        options = DecodeOptions(beam_size=3, previous="abc fed")
        (ours,) = base.decode(base.encode(base.features([clip])), ["en"], options)
        assert base.prompt(["en"], options)[0].tolist() == theirs.yseq.tolist()[: base.prompt(["en"], options).shape[1]]
        assert ours.log_probability == pytest.approx(float(theirs.score), abs=1e-3)


def test_words_are_right_where_the_model_learnt(trained):
    base = load(trained, context="dynamic")
    clips = [c for c in toy.clips(30, ("en",), seed=8) if base.grid_s(c[0]) == 1.0]
    hidden = base.encode(base.features([u for u, _, _ in clips]))
    for options, wanted in (({}, 0.6), ({"ctc_weight": 1.0}, 0.8)):
        found = base.decode(hidden, ["en"] * len(clips), DecodeOptions(**options))
        right = sum(h.text == text for h, (_, text, _) in zip(found, clips, strict=True))
        assert right / len(clips) > wanted, options


def test_ctc_and_timestamps_exclude_each_other(trained):
    base = load(trained, context="dynamic")
    hidden = base.encode(base.features([toy.clips(1, ("en",), seed=1)[0][0]]))
    with pytest.raises(ModelError, match="CTC cannot predict timestamps"):
        base.decode(hidden, ["en"], DecodeOptions(ctc_weight=0.3, timestamps=True))
    with pytest.raises(ModelError, match=r"ctc_weight is 1\.5\. Valid: 0 to 1"):
        base.decode(hidden, ["en"], DecodeOptions(ctc_weight=1.5))


def test_languages_are_bcp_47(trained):
    base = load(trained)
    assert base.languages == ("en", "hi", "it", "pa", "te")
    assert base.language_id("hi-IN") == base.language_id("hin") == base.language_id("hi")
    assert base.tokenizer.tokens[base.language_id("pa")] == "<pan>"


def test_half_precision_keeps_features_in_float32(trained):
    base = load(trained, dtype="bfloat16", context="dynamic")
    assert base.dtype == torch.bfloat16
    assert next(base.module.frontend.buffers()).dtype == torch.float32
    clip, _, language = toy.clips(1, ("en",), seed=5)[0]
    assert base.decode(base.encode(base.features([clip])), [language], DecodeOptions(beam_size=2))[0].text


def test_other_peoples_folders_are_not_claimed(tmp_path):
    assert not owsm_files.recognises(tmp_path)
    (tmp_path / "meta.yaml").write_text("- a\n- list\n")
    assert not owsm_files.recognises(tmp_path)
    (tmp_path / "meta.yaml").write_text("files: {asr_model_file: a.pth}\nyaml_files: {asr_train_config: c.yaml}\n")
    assert not owsm_files.recognises(tmp_path)


def test_the_debug_model_is_the_same_every_time(tmp_path):
    from zoo.checksum import sha256

    for name in ("a", "b"):
        debug_owsm.build(tmp_path / name)
    names = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(names) == 5
    assert all(sha256(tmp_path / "a" / name) == sha256(tmp_path / "b" / name) for name in names)


def test_the_debug_card_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("BOLI_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    base = zoo.load("debug-owsm")
    assert base.card.parameters == sum(p.numel() for p in base.module.parameters())
    assert base.max_duration_s == 30
    assert base.max_tokens == 749


def test_espnet_is_imported_only_when_used_and_leaves_nothing_behind(trained, tmp_path):
    """In a process of its own: looking at a folder imports neither torch nor ESPnet; loading prints nothing, adds no
    handler, leaves no torchaudio, and needs neither nltk nor a network."""
    code = f"""
import logging, socket, sys
from pathlib import Path
def refused(*arguments): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refused
from zoo.owsm_family import family
folder = Path({str(trained)!r})
assert family.matches(folder)
card = family.card(folder, "toy")
assert not {{"torch", "espnet2", "sentencepiece"}} & set(sys.modules)
family.load(folder, card)
assert not {{"torchaudio", "nltk", "g2p_en"}} & set(sys.modules)
assert not logging.getLogger().handlers
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=toy_owsm.ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_silence_is_no_error(trained):
    base = load(trained, context="dynamic")
    clip = type(toy.clips(1, ("en",), seed=1)[0][0])(np.zeros(1600, np.float32))
    for options in ({}, {"beam_size": 3}, {"ctc_weight": 0.3, "beam_size": 2}, {"ctc_weight": 1.0}):
        (found,) = base.decode(base.encode(base.features([clip])), ["en"], DecodeOptions(**options))
        assert np.isfinite(found.log_probability)


def test_words_lie_where_their_letters_sound(trained):
    """By CTC: every letter of the toy speech lasts 90 ms, so the words are where they were put."""
    base = load(trained, context="dynamic")
    made = [clip for clip in toy.clips(40, ("en",), seed=8) if clip[0].duration_s <= 0.99]
    hidden = base.encode(base.features([u for u, _, _ in made]))
    found = base.decode(hidden, ["en"] * len(made), DecodeOptions(ctc_weight=1.0))
    right = 0
    for words, hypothesis, (utterance, text, _) in zip(base.align_words(hidden, found), found, made, strict=True):
        if hypothesis.text != text:
            continue
        right += 1
        (word,) = words
        assert word.word == text
        lead = (utterance.duration_s - toy.LETTER_S * len(text)) / 2
        assert word.start_s == pytest.approx(lead, abs=0.12)
        assert word.end_s == pytest.approx(utterance.duration_s - lead, abs=0.12)
        assert 0 < word.probability <= 1
    assert right > 10


def test_forced_alignment_is_the_best_of_all_paths():
    """Against every path of a small case, one by one."""
    import itertools

    from zoo.owsm_words import token_spans

    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    for tokens in ([1, 2], [1, 1], [3], [2, 1, 2]):
        paths = {}
        for path in itertools.product(range(4), repeat=6):
            collapsed = [token for token, _ in itertools.groupby(path) if token != 0]
            if collapsed == tokens:
                paths[path] = sum(float(scores[t, token]) for t, token in enumerate(path))
        best = max(paths, key=paths.get)
        runs, t = [], 0
        for token, group in itertools.groupby(best):
            length = len(list(group))
            if token != 0:
                runs.append([t, t + length])
            t += length
        assert token_spans(scores, tokens, 0).tolist() == runs
    assert token_spans(scores, [1] * 5, 0)[-1, 1] == 6, "no path: the frames are shared"
    assert token_spans(scores, [], 0).shape == (0, 2)


def test_words_are_parted_at_spaces(trained):
    from zoo.owsm_words import _words

    base = load(trained)
    tokens = base.tokenizer.encode("ab cd e")
    times = np.stack([np.arange(len(tokens)), np.arange(len(tokens)) + 1], axis=1).astype(float)
    words = _words(base, tokens, times, np.ones(len(tokens)), "en")
    assert [word.word for word in words] == ["ab", " cd", " e"]
    assert [token for word in words for token in word.tokens] == tokens
    assert (words[1].start_s, words[1].end_s) == (4.0, 6.0), "the space before a word is no part of its time"
    assert [word.word for word in _words(base, tokens[1:3], times, np.ones(2), "zh")] == ["a", "b"]
