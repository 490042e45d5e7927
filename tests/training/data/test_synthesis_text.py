"""Texts of the synthetic corpus: numbers, normal form, grammars, and a split that no text crosses."""

import random

import pytest

from training.data.prompts import normalise, read_document, read_words, split_of
from training.data.prompts_human import Forbidden, HumanClip, spoken_numbers
from training.data.templates import digit_string, load_grammar, parse_grammar, split_digits
from training.data.templates_numbers import DIGITS, NUMBER_LANGUAGES, number_words
from zoo.errors import DataError


@pytest.mark.parametrize(
    ("number", "language", "words"),
    [
        (0, "hi", "शून्य"),
        (99, "hi", "निन्यानवे"),
        (250_375, "hi", "दो लाख पचास हज़ार तीन सौ पचहत्तर"),
        (47, "pa", "ਸੰਤਾਲੀ"),
        (121, "te", "నూట ఇరవై ఒకటి"),
        (2024, "te", "రెండు వేల ఇరవై నాలుగు"),
        (21, "it", "ventuno"),
        (28, "it", "ventotto"),
        (203, "it", "duecentotré"),
        (1948, "it", "millenovecentoquarantotto"),
        (1001, "en", "one thousand and one"),
        (345, "en", "three hundred and forty five"),
        (71, "fr", "soixante et onze"),
        (99, "fr", "quatre vingt dix neuf"),
        (321, "de", "dreihunderteinundzwanzig"),
        (21_000, "es", "veintiún mil"),
    ],
)
def test_numbers_are_written_as_they_are_said(number, language, words):
    assert number_words(number, language) == words


@pytest.mark.parametrize("language", sorted(NUMBER_LANGUAGES))
def test_every_number_below_ten_thousand_has_words_of_its_own(language):
    assert len({number_words(number, language) for number in range(10_000)}) == 10_000


def test_a_number_without_words_says_what_has_them():
    with pytest.raises(DataError, match=r"no words for number -1.*0 to 999999999 in de, en"):
        number_words(-1, "en")


@pytest.mark.parametrize(
    ("text", "language", "normal"),
    [
        ("What’s the weather—like?", "en", "what's the weather like"),
        ("Qual è l'ora?", "it", "qual è l'ora"),
        ("'quoted' words", "en", "quoted words"),
        ("ज़िंदगी। इक", "hi", "ज़िंदगी इक"),
        ("తెలుగుబాల!!", "te", "తెలుగుబాల"),
        ("क्\u200dष", "hi", "क्ष"),
        ("don't", "de", "don t"),
    ],
)
def test_normal_form(text, language, normal):
    assert normalise(text, language) == normal
    assert normalise(normal, language) == normal


def test_digits_of_transcripts_become_words():
    assert spoken_numbers("timer di 5 ore e 1 minuto", "it") == "timer di cinque ore e uno minuto"
    assert spoken_numbers("press 1, or 2.", "en") == "press one, or two."
    assert spoken_numbers("version 1.5", "en") == "version 1.5"


@pytest.mark.parametrize("language", ["en", "hi", "it", "pa", "te", "de", "fr", "es"])
def test_a_grammar_makes_many_sentences_in_normal_form_and_no_sentence_in_two_splits(language):
    grammar = load_grammar(language)
    made = {
        split: {grammar.sentence(random.Random(seed), split) for seed in range(1500)} for split in ("train", "test")
    }
    assert len(made["train"]) > 700
    assert not made["train"] & made["test"]
    assert all(sentence == normalise(sentence, language) for sentence in made["train"] | made["test"])
    assert not any(char.isdigit() for sentence in made["train"] for char in sentence)


def test_kept_out_entries_are_never_trained_on_and_do_occur_in_tests():
    grammar = load_grammar("hi")
    kept_out = [entry for entries in grammar.lists.values() for entry in entries.held_out if " " not in entry]
    kept_out = {normalise(entry, "hi") for entry in kept_out if "{" not in entry}
    open_words = {
        word
        for entries in [*grammar.lists.values(), *(block for _, block in grammar.blocks)]
        for entry in entries.open
        for word in normalise(entry, "hi").split()
    }
    only_kept_out = kept_out - open_words
    assert len(only_kept_out) > 15
    words = {
        split: {word for seed in range(3000) for word in grammar.sentence(random.Random(seed), split).split()}
        for split in ("train", "test")
    }
    assert not only_kept_out & words["train"]
    assert len(only_kept_out & words["test"]) > len(only_kept_out) / 3


def test_articles_fit_the_word_that_follows():
    sentences = {load_grammar("en").sentence(random.Random(seed), "train") for seed in range(3000)}
    assert not [text for text in sentences if " a ancient" in text or " an quiet" in text or " an small" in text]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[S]\ni see {thing}", r"names unknown lists \['thing'\]"),
        ("stray\n[S]\na", "line 1 stands before any list"),
        ("[a]\nb", "has no sentences"),
        ("[a]\n[S]\nx {a}", r"list \[a\] is empty"),
    ],
)
def test_a_broken_grammar_says_what_is_wrong(text, message):
    with pytest.raises(DataError, match=message):
        parse_grammar(text, "en")


def test_a_missing_grammar_lists_those_there_are():
    with pytest.raises(DataError, match=r"no grammar for 'xx'.*de, en, es, fr, hi, it, pa, te"):
        load_grammar("xx")


def test_digit_strings_belong_to_one_split():
    made = {
        split: {split_digits(random.Random(seed), "pa", split, (3, 8)) for seed in range(500)}
        for split in ("train", "test")
    }
    assert not made["train"] & made["test"]
    assert set(" ".join(made["train"]).split()) >= set(DIGITS["pa"])
    assert len(digit_string(random.Random(1), "hi", 7).split()) == 7


def test_a_document_is_split_by_paragraph_before_it_is_cut(tmp_path):
    lines = [f"alpha{chr(97 + i)} one two three four, five six seven (eight) nine." for i in range(20)]
    (tmp_path / "udhr.en.txt").write_text("\n".join(lines), "utf-8")
    document = read_document(tmp_path / "udhr.en.txt", "en")
    first = {
        split: {words[0] for words in clauses if words[0].startswith("alpha")}
        for split, clauses in document.clauses.items()
    }
    assert first["test"] == {"alphah", "alphaj", "alphar", "alphat"}
    assert first["dev"] == {"alphad", "alphan"}
    assert not first["train"] & (first["test"] | first["dev"])


def test_words_are_split_by_word_and_by_script(tmp_path):
    words = [f"अ{a}{b}" for a in "कखगघ" for b in "चछजझटठडढ"]
    (tmp_path / "hi.txt").write_text("\n".join([*words, "whatsapp", "१२"]), "utf-8")
    read = read_words(tmp_path / "hi.txt", "hi")
    assert {word for found in read.words.values() for word in found} == set(words)
    assert all(split_of(word) == split for split, found in read.words.items() for word in found)
    assert set(read.phrase(random.Random(0), "train").split()) <= set(read.words["train"])


def test_what_recorded_test_clips_say_is_not_spoken_for_training():
    forbidden = Forbidden(["वह बहुत धीरे धीरे चला गया", "seven", "one two three four five"])
    assert forbidden.refuses("कल बहुत धीरे धीरे चला")
    assert not forbidden.refuses("वह बहुत धीरे आया")
    assert not forbidden.refuses("seven")
    assert forbidden.refuses("one two three four five")
    assert not forbidden.refuses("two three four five six")


def test_recordings_are_split_by_speaker_and_text():
    def clip(speaker, text):
        return HumanClip(f"{speaker}.ogg", "hi", "ohm_hi", speaker, text)

    splits = {text: clip("ohm_hi:2501", text).split for text in (f"वाक्य {number}" for number in range(200))}
    assert set(splits.values()) == {"train", "dev", "known_speaker"}
    for text, split in splits.items():
        assert clip("ohm_hi:2505", text).split == ("test" if split == "known_speaker" else "unused")
