"""LoRA folders as PEFT writes them, held to PEFT itself; and everything that is refused."""

import json
import os
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from adapters.peft_files import CONFIG, WEIGHTS, by_pattern, read_weights
from tests.adapters.conftest import SITE, configure
from zoo.errors import AdapterError


class Small(nn.Module):
    """Paths like Whisper's, in layers 0, 1 and 10, so that patterns can go wrong."""

    def __init__(self):
        super().__init__()
        kinds = ("q_proj", "out_q_proj", "fc1")
        layers = (nn.ModuleDict({kind: nn.Linear(8, 8) for kind in kinds}) for _ in range(11))
        self.model = nn.ModuleDict({"layers": nn.ModuleList(layers)})

    def forward(self, x):
        return x


PATTERNS = [
    {"q_proj": 2},
    {"layers.1.q_proj": 2},
    {"^model.layers.1.q_proj": 2},
    {"^layers.1.q_proj": 2},
    {"model.layers.1.q_proj$": 2},
    {r"layers\.(0|10)\..*": 2},
    {"1.q_proj": 2},
    {".*": 2, "fc1": 3},
    {"out_q_proj|fc1": 5},
    {"proj": 2},
]


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_ranks_and_scales_are_those_of_peft(tmp_path, pattern, rslora):
    torch.manual_seed(0)
    targets = r".*\.(q_proj|out_q_proj|fc1)" if rslora else ["q_proj", "out_q_proj", "fc1"]
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=targets,
        rank_pattern=pattern,
        alpha_pattern={key: 7 * value for key, value in pattern.items()},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    model = get_peft_model(Small(), config)
    model.save_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    wrapped = {name: module for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert set(weights.sites) == set(wrapped)
    for name, site in weights.sites.items():
        assert site.rank == wrapped[name].r["default"]
        assert site.scale == pytest.approx(wrapped[name].scaling["default"])
        torch.testing.assert_close(site.scale * site.B @ site.A, wrapped[name].get_delta_weight("default"))
        assert site.update_norm() == pytest.approx(
            float(wrapped[name].get_delta_weight("default").detach().norm()), rel=1e-5
        )


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
def test_patterns_whose_order_saving_loses_are_refused_as_peft_refuses_them(tmp_path):
    config = LoraConfig(r=4, target_modules=["fc1"], rank_pattern={"fc1": 3, ".*": 2}, init_lora_weights=False)
    get_peft_model(Small(), config).save_pretrained(tmp_path)  # sorts the keys: `.*` comes first now
    with pytest.raises(RuntimeError, match="size mismatch"):
        PeftModel.from_pretrained(Small(), tmp_path)
    with pytest.raises(AdapterError, match=r"has rank 3, its adapter_config\.json says 2"):
        read_weights(tmp_path)


@pytest.mark.parametrize("init", [True, "gaussian", "orthogonal", "mica"])
def test_initialisations_that_leave_the_base_alone_are_read(tmp_path, init):
    model = get_peft_model(Small(), LoraConfig(r=4, target_modules=["fc1"], init_lora_weights=init))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    assert len(read_weights(tmp_path).sites) == 11


@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights:UserWarning")
def test_pissa_is_refused_and_peft_s_conversion_makes_it_plain(tmp_path):
    torch.manual_seed(0)
    base = Small()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["fc1"], init_lora_weights="pissa"))
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    model.peft_config["default"].init_lora_weights = "pissa"
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "pissa")
    with pytest.raises(AdapterError, match="changed the base's weights") as caught:
        read_weights(tmp_path / "pissa")
    assert "path_initial_model_for_weight_conversion=INITIAL" in caught.value.remedy
    model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    assert read_weights(tmp_path / "plain").rank == 4


@pytest.mark.parametrize("prefix", ["", "base_model.model.", "base_model.model.base_model.model."])
@pytest.mark.parametrize("suffix", ["weight", "default.weight", "hindi.weight"])
def test_names_with_and_without_prefix_and_adapter(lora, prefix, suffix):
    folder = lora()
    plain = {key.removeprefix("base_model.model."): value for key, value in load_file(folder / WEIGHTS).items()}
    save_file({prefix + key.replace("weight", suffix): value for key, value in plain.items()}, folder / WEIGHTS)
    assert sorted(read_weights(folder).sites) == [f"model.encoder.layers.{i}.self_attn.q_proj" for i in (0, 1)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_read_as_fp32(lora, dtype):
    folder = lora()
    held = {key: value.to(dtype) for key, value in load_file(folder / WEIGHTS).items()}
    save_file(held, folder / WEIGHTS)
    site = next(iter(read_weights(folder).sites.values()))
    assert site.A.dtype == torch.float32
    torch.testing.assert_close(site.A, held[SITE.format(0, "A")].float())


def test_missing_rank_and_alpha_are_peft_s_defaults(lora):
    folder = lora(
        tensors={SITE.format(i, "A"): torch.ones(8, 64) for i in (0, 1)}
        | {SITE.format(i, "B"): torch.ones(64, 8) for i in (0, 1)}
    )
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA"}))
    assert {site.scale for site in read_weights(folder).sites.values()} == {LoraConfig().lora_alpha / LoraConfig().r}


def test_every_field_of_peft_s_configuration_is_judged():
    """A default configuration passes whole; so a field that a newer PEFT adds is met by this test first."""
    from adapters.peft_files import _HARMLESS, _REASONS

    assert set(LoraConfig().to_dict()) - _HARMLESS - set(_REASONS) == set()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "VERA"}, "its kind (peft_type) is 'VERA'"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"peft_type": "ADALORA"}, "'ADALORA'"),
        ({"peft_type": "LOHA"}, "'LOHA'"),
        ({"peft_type": None}, "None"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"bias": "all"}, "trained biases"),
        ({"lora_bias": True}, "trained biases"),
        ({"modules_to_save": ["proj_out"]}, "modules_to_save: proj_out"),
        ({"trainable_token_indices": [1]}, "token embeddings"),
        ({"layer_replication": [[0, 2]]}, "layers repeated"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"target_parameters": ["w"]}, "bare parameters"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"monteclora_config": {"num_samples": 1}}, "MonteCLoRA"),
        ({"velora_config": {"scale": 1}}, "VeLoRA"),
        ({"megatron_config": {"a": 1}}, "Megatron"),
        ({"enable_lora": [True, False]}, "PEFT before 0.3"),
        ({"of_the_future": {"a": 1}}, "of_the_future, which boli does not know"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base's weights"),
        ({"init_lora_weights": "olora"}, "changed the base's weights"),
        ({"init_lora_weights": "corda"}, "changed the base's weights"),
        ({"init_lora_weights": "lora_ga"}, "changed the base's weights"),
        ({"init_lora_weights": "loftq"}, "changed the base's weights"),
        ({"r": 8}, "has rank 4, its adapter_config.json says 8"),
        ({"rank_pattern": {"q_proj": 5}}, "says 5"),
        ({"rank_pattern": {"(": 5}}, "no regular expression"),
        ({"alpha_pattern": [1]}, "pattern table"),
        ({"lora_alpha": None}, "lora_alpha of model.encoder"),
        ({"lora_alpha": float("nan")}, "lora_alpha of model.encoder"),
        ({"lora_alpha": 0}, "does nothing"),
    ],
)
def test_configurations_that_are_refused(lora, config, message):
    with pytest.raises(AdapterError) as caught:
        read_weights(lora(config=config))
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"base_model.model.x.lora_embedding_A": torch.ones(2, 2)}, "a trained embedding"),
        ({"base_model.model.x.lora_magnitude_vector.weight": torch.ones(2)}, "DoRA's magnitude"),
        ({"base_model.model.x.lora_B.bias": torch.ones(2)}, "a trained bias"),
        ({"base_model.model.x.lora_E": torch.ones(2)}, "AdaLoRA"),
        ({"base_model.model.proj_out.weight": torch.ones(2)}, "no LoRA matrix"),
        ({SITE.format(0, "A"): None}, "holds only lora_B"),
        ({SITE.format(0, "A"): torch.ones(4, 64, 3)}, "is a convolution"),
        ({SITE.format(0, "A"): torch.ones(3, 64)}, "do not fit"),
        ({SITE.format(0, "A"): torch.full((4, 64), float("nan"))}, "NaN or infinite"),
        ({SITE.format(1, "B"): torch.full((64, 4), float("inf"))}, "NaN or infinite"),
        ({SITE.format(0, "A"): torch.ones(4, 64, dtype=torch.int8)}, "torch.int8"),
        ({SITE.format(i, "B"): torch.zeros(64, 4) for i in (0, 1)}, "does nothing"),
        ({SITE.format(i, which): None for i in (0, 1) for which in "AB"}, "no weights at all"),
        ({SITE.format(0, "A").replace("weight", "a.weight"): torch.ones(4, 64)}, "twice"),
        ({"x.lora_A.a.weight": torch.ones(4, 64), "x.lora_B.a.weight": torch.ones(64, 4)}, "several adapters"),
    ],
)
def test_tensors_that_are_refused(lora, tensors, message):
    with pytest.raises(AdapterError) as caught:
        read_weights(lora(tensors=tensors))
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (CONFIG, b"{", "no JSON"),
        (CONFIG, b"\xff\xfe", "no JSON"),
        (CONFIG, b"[1]", "holds a list"),
        (CONFIG, None, f"holds no {CONFIG}"),
        (WEIGHTS, b"", "is damaged"),
        (WEIGHTS, b"\x10" * 100, "is damaged"),
        (WEIGHTS, None, f"holds no {WEIGHTS}"),
    ],
)
def test_damaged_files_are_refused(lora, file, content, message):
    folder = lora()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(AdapterError, match=message):
        read_weights(folder)


def test_a_truncated_file_is_refused_and_a_fresh_copy_mends_it(lora):
    folder = lora()
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-10])
    with pytest.raises(AdapterError, match="damaged") as caught:
        read_weights(folder)
    assert "copy the adapter again" in caught.value.remedy
    (folder / WEIGHTS).write_bytes(whole)
    read_weights(folder)


def test_a_pickle_is_refused_and_the_command_in_the_advice_mends_it(lora):
    folder = lora()
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    expected = read_weights(folder).update_norms()
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="pickle") as caught:
        read_weights(folder)
    command = caught.value.remedy.partition("in its folder: python ")[2]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    subprocess.run(f"{sys.executable} {command}", shell=True, cwd=folder, check=True, env=environment)
    assert read_weights(folder).update_norms() == expected


def test_fan_in_fan_out_makes_no_difference_to_the_two_matrices(lora):
    assert read_weights(configure(lora(), fan_in_fan_out=True)).rank == 4


def test_without_a_pattern_the_default_holds():
    assert by_pattern(None, "x", 1) == by_pattern({}, "x", 1) == by_pattern({"y": 3}, "x", 1) == 1
