"""Our methods against recorded outputs of official code, and the command that compares them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from parbench.parity.case import load_cases
from parbench.parity.finding import parity_of, shipped
from parbench.parity.layers import LayerParity
from parbench.parity.runners import compare
from parbench.parity.tokens import TokenParity
from paths import GOLDEN
from plain_ops import plain_farthest, plain_folding, plain_thinning

CASES = {case.name: case for case in load_cases(GOLDEN)}


@pytest.fixture(scope="module")
def outcomes():
    """What came of a recorded case, compared once."""

    @cache
    def of(name):
        (outcome,) = compare([CASES[name]])
        return outcome

    return of


# One case of each method, of the first seed where there are several.
SMOKE = {case.method: name for name, case in sorted(CASES.items(), reverse=True)}.values()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else ()) for name in CASES])
def test_what_official_code_chose_is_chosen(name, outcomes):
    outcome = outcomes(name)
    assert outcome.status == "match", (outcome.reason, outcome.verdict)
    if isinstance(parity_of(CASES[name].method), LayerParity):
        assert not outcome.reason


def test_every_method_that_is_served_has_a_recorded_case():
    assert {case.method for case in CASES.values()} == set(shipped())


def token_method(case) -> bool:
    return isinstance(parity_of(case.method), TokenParity)


def test_indices_and_order_are_compared_for_every_case_of_a_choice(outcomes):
    for outcome in (outcomes(name) for name, case in CASES.items() if token_method(case)):
        assert outcome.verdict.indices is True
        assert outcome.verdict.order is True
        assert outcome.verdict.values < 1e-5


# --- the command


def copied(folder: Path, *names: str) -> Path:
    """A folder with some of the recorded cases and their inputs."""
    for name in names:
        for part in (name, CASES[name].meta["inputs_file"].removesuffix(".safetensors")):
            for suffix in (".json", ".safetensors"):
                shutil.copy(GOLDEN / f"{part}{suffix}", folder)
    return folder


def change(folder: Path, name: str, edit) -> None:
    path = folder / f"{name}.safetensors"
    recorded = load_file(path)
    edit(recorded)
    save_file(recorded, path)


def lines(run, folder: Path) -> tuple[int, dict[str, dict]]:
    code, out, _ = run("parity", str(folder), "--json")
    return code, {line["case"]: line for line in json.loads(out)}


def test_the_command_prints_a_table(run, folder):
    code, out, _ = run("parity", str(copied(folder, "divprune_098_seed0")))
    assert code == 0
    assert "divprune_098_seed0" in out
    assert "1 of 1 cases match, 0 skipped" in out


def test_the_lines_have_fixed_keys(run, folder):
    code, found = lines(run, copied(folder, "trim_iqr_seed1"))
    assert code == 0
    line = found["trim_iqr_seed1"]
    assert set(line) == {"method", "case", "indices", "order", "values", "logits", "verdict", "reason"}
    assert (line["method"], line["verdict"], line["logits"]) == ("trim", "match", None)


def one_other(recorded, name):
    missing = set(range(576)) - set(recorded[name].tolist())
    recorded[name][1] = min(missing)


def two_swapped(recorded, name):
    recorded[name][:2] = recorded[name][:2].flip(0)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("prumerge_adaptive_seed0", "kept_indices"),
        ("prumerge_plus_fixed8_seed0", "kept_indices"),
        ("visionzip_54_10_seed0", "kept_indices"),
        ("visionzip_54_10_seed0", "contextual_targets"),
        ("divprune_098_seed0", "selection_order"),
        ("trim_r25_seed0", "kept_indices"),
        ("cdpruner_64_seed0", "selection_order"),
        ("vispruner_64_seed0", "diverse_indices"),
    ],
)
def test_one_other_patch_or_another_order_is_found(run, folder, name, tensor):
    copied(folder, name)
    change(folder, name, lambda recorded: two_swapped(recorded, tensor))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"], found[name]["order"]) == (1, "mismatch", False)
    change(folder, name, lambda recorded: one_other(recorded, tensor))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"], found[name]["indices"]) == (1, "mismatch", False)


def test_another_group_is_found(run, folder):
    name = "folder_pre_r384_seed0"
    copied(folder, name)
    change(folder, name, lambda recorded: recorded["group"].__setitem__(7, recorded["group"][7] + 1))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"]) == (1, "mismatch")


@pytest.mark.parametrize("name", ["prumerge_adaptive_seed0", "folder_post_r288_seed0", "vispruner_64_seed0"])
def test_one_other_value_is_found_and_the_others_still_match(run, folder, name):
    copied(folder, name, "divprune_25_seed0")
    change(folder, name, lambda recorded: recorded["output_tokens"][3, 3].mul_(1.01).add_(0.01))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"], found[name]["indices"]) == (1, "mismatch", True)
    assert found[name]["values"] > 1e-4
    assert found["divprune_25_seed0"]["verdict"] == "match"


def test_a_value_that_is_no_number_is_no_match(run, folder):
    name = "trim_iqr_seed0"
    copied(folder, name)
    change(folder, name, lambda recorded: recorded["output_tokens"].fill_(float("nan")))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"], found[name]["values"]) == (1, "mismatch", None)


def test_a_method_that_is_not_there_is_skipped(run, folder):
    copied(folder, "divprune_098_seed0")
    save_file({"kept": torch.arange(3)}, folder / "other.safetensors")
    (folder / "other.json").write_text(json.dumps({"method": "brightest"}))
    code, found = lines(run, folder)
    assert (code, found["other"]["verdict"]) == (0, "skipped")
    assert "brightest" in found["other"]["reason"]


def test_a_case_that_our_method_has_no_counterpart_for_is_skipped_with_the_reason(run, folder):
    copied(folder, "trim_iqr_seed0")
    path = folder / "trim_iqr_seed0.json"
    path.write_text(path.read_text().replace('"iqr_factor": 1.5', '"iqr_factor": 3.0'))
    code, found = lines(run, folder)
    assert (code, found["trim_iqr_seed0"]["verdict"]) == (0, "skipped")
    assert "interquartile" in found["trim_iqr_seed0"]["reason"]


def test_a_case_on_which_a_method_fails_is_no_match_and_stops_nothing(run, folder):
    copied(folder, "divprune_098_seed0", "trim_iqr_seed0")
    path = folder / "trim_iqr_seed0.json"
    path.write_text(path.read_text().replace('"k": -1', '"k": 7'))
    code, found = lines(run, folder)
    assert (code, found["trim_iqr_seed0"]["verdict"]) == (1, "error")
    assert "budget=" in found["trim_iqr_seed0"]["reason"]
    assert found["divprune_098_seed0"]["verdict"] == "match"


def damaged_json(folder):
    (folder / "divprune_098_seed0.json").write_text("{")


def damaged_tensors(folder):
    (folder / "divprune_098_seed0.safetensors").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no recorded case"),
        (lambda folder: (folder / "divprune_098_seed0.safetensors").unlink(), "a pair of files"),
        (lambda folder: (folder / "inputs_seed0.safetensors").unlink(), "needs inputs_seed0.safetensors"),
        (damaged_json, "is damaged"),
        (damaged_tensors, "cannot be read"),
    ],
)
def test_a_bad_folder_is_one_sentence(run, folder, spoil, said):
    cases = folder / "cases"
    cases.mkdir()
    spoil(copied(cases, "divprune_098_seed0"))
    code, _, err = run("parity", str(cases))
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_without_a_folder_it_says_how(run):
    code, _, err = run("parity")
    assert code == 2
    assert "parbench parity tests/golden" in err


# --- other sizes: recorded by plain loops over one image

SIZE, WIDTH, HEADS, LLM, CLIP = 70, 24, 3, 40, 10


def normalised(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn_inputs(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "features": (SIZE, WIDTH),
        "cls_feature": (WIDTH,),
        "q_block_last": (SIZE + 1, WIDTH),
        "k_block_last": (SIZE + 1, WIDTH),
        "keys_heads": (HEADS, SIZE + 1, WIDTH // HEADS),
        "projected": (SIZE, LLM),
        "proj_w1": (LLM, WIDTH),
        "proj_b1": (LLM,),
        "proj_w2": (LLM, LLM),
        "proj_b2": (LLM,),
        "post_ln_weight": (WIDTH,),
        "post_ln_bias": (WIDTH,),
        "visual_projection": (CLIP, WIDTH),
        "clip_patch_embeds": (SIZE, CLIP),
        "clip_text_embeds": (1, CLIP),
    }
    inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    attention = rng.exponential(size=(HEADS, SIZE + 1))
    inputs["cls_attention_heads"] = (attention / attention.sum(1, keepdims=True)).astype(np.float32)
    return inputs


def recorded_prumerge(x, adaptive: bool, plus: bool, neighbours: int = 5, share: float = 0.125):
    keys = x["k_block_last"].astype(float)
    logits = keys @ x["q_block_last"][0].astype(float) / np.sqrt(WIDTH)
    weight = (np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())[1:]
    q1, q3 = np.percentile(weight, [25, 75])
    ratio = int((weight > q3 + 1.5 * (q3 - q1)).sum()) / SIZE if adaptive else share
    count = int(SIZE * ratio)
    kept = sorted(range(SIZE), key=lambda i: -weight[i])[:count]
    if plus and adaptive:
        stride = int(int(1 / ratio) / 3)
        kept += [i for i in range(0, SIZE - 1, stride) if i not in kept]
    elif plus:
        step = int(1 / share)
        kept += [int(i) for i in np.arange(step / 2, SIZE - 1, step)]
    rest = [i for i in range(SIZE) if i not in kept][len(kept) - len(set(kept)) :]
    unit, features = normalised(keys[1:]), x["features"].astype(float)
    out = []
    for place, i in enumerate(kept):
        others = kept[:place] + kept[place + 1 :] + rest
        near = sorted(others, key=lambda j: -float(unit[i] @ unit[j]))[:neighbours]
        out.append(features[i] + sum(weight[j] * features[j] for j in near))
    out.append(sum((weight[j] * features[j] for j in rest), np.zeros(WIDTH)))
    parameters = {"if_adaptive": adaptive, "reduction_ratio": None if adaptive else share, "neighbours": neighbours}
    return parameters, {"kept_indices": kept, "pruned_indices": rest, "output_tokens": out}


def recorded_visionzip(x, dominant: int, contextual: int):
    weight = x["cls_attention_heads"].astype(float).sum(0)[1:]
    kept = sorted(sorted(range(SIZE), key=lambda i: -weight[i])[: dominant - 1])
    rest = [i for i in range(SIZE) if i not in kept]
    targets = rest[:: max(1, len(rest) // contextual)][:contextual]
    others = [i for i in rest if i not in targets]
    unit = normalised(x["keys_heads"].astype(float).mean(0)[1:])
    assigned = [max(range(contextual), key=lambda t: float(unit[i] @ unit[targets[t]])) for i in others]
    features, out = x["features"].astype(float), [x["cls_feature"], *x["features"][kept]]
    for number, target in enumerate(targets):
        mine = [features[i] for i, t in zip(others, assigned, strict=True) if t == number]
        out.append(features[target] + (np.mean(mine, axis=0) if mine else 0))
    return {"dominant": dominant, "contextual": contextual}, {
        "kept_indices": kept,
        "contextual_targets": targets,
        "remaining_indices": rest,
        "assignment": assigned,
        "output_tokens": out,
    }


def recorded_divprune(x, ratio: float):
    unit = normalised(x["projected"].astype(float))
    order = plain_farthest((1 - unit @ unit.T).tolist(), round(ratio * SIZE))
    kept = sorted(order)
    return {"ratio": ratio}, {"selection_order": order, "kept_indices": kept, "output_tokens": x["projected"][kept]}


def recorded_trim(x, k: float):
    features = x["features"].astype(float)
    centred = features - features.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * x["post_ln_weight"] + x["post_ln_bias"]
    logits = -(normed @ x["visual_projection"].T.astype(float)) @ x["clip_text_embeds"][0].astype(float)
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    q1, q3 = np.percentile(scores, [25, 75])
    count = int(SIZE * (int((scores > q3 + 1.5 * (q3 - q1)).sum()) / SIZE if k == -1 else k))
    kept = sorted(sorted(range(SIZE), key=lambda i: -scores[i])[:count])
    rest = [i for i in range(SIZE) if i not in kept]
    out = [*features[kept], features[rest].mean(0)]
    return {"k": k}, {"kept_indices": kept, "scores": scores, "output_tokens": out}


def recorded_cdpruner(x, count: int):
    cosines = normalised(x["clip_patch_embeds"].astype(float)) @ normalised(x["clip_text_embeds"].astype(float)).T
    raw = -cosines.mean(1)
    relevance = (raw - raw.min() + 1e-6) / (raw.max() - raw.min())
    unit = normalised(x["projected"].astype(float)) * relevance[:, None]
    kernel, order = unit @ unit.T, []
    while len(order) < count:
        rest = [i for i in range(SIZE) if i not in order]
        order.append(max(rest, key=lambda i: np.linalg.slogdet(kernel[np.ix_([*order, i], [*order, i])])[1]))
    kept = sorted(order)
    return {"visual_token_num": count}, {
        "selection_order": order,
        "kept_indices": kept,
        "relevance": relevance,
        "output_tokens": x["projected"][kept],
    }


def recorded_vispruner(x, count: int):
    weight = x["cls_attention_heads"].astype(float).mean(0)[1:]
    order = sorted(range(SIZE), key=lambda i: -weight[i])
    important, unit = order[: count // 2], normalised(x["features"].astype(float))
    diverse = plain_thinning(unit @ unit.T, order[count // 2 :], count - count // 2, 8)
    kept = sorted(important + diverse)
    hidden = torch.from_numpy(x["features"][kept] @ x["proj_w1"].T + x["proj_b1"])
    out = torch.nn.functional.gelu(hidden).numpy() @ x["proj_w2"].T + x["proj_b2"]
    return {"visual_token_num": count, "important_ratio": 0.5, "removed_per_round": 8}, {
        "kept_indices": kept,
        "important_indices": important,
        "diverse_indices": diverse,
        "output_features": x["features"][kept],
        "output_tokens": out,
    }


def recorded_folder(x, removed: int, cls: bool):
    rows = np.concatenate([x["cls_feature"][None], x["features"]]) if cls else x["features"]
    groups = plain_folding(rows.astype(float), removed, protect=cls)
    scaled = removed > (len(rows) - 1) // 2 or removed < (len(rows) - removed) // 2
    out = [np.mean(rows[group].astype(float), axis=0) * (1 + scaled * np.log(len(group))) for group in groups]
    group = [next(k for k, members in enumerate(groups) if i in members) for i in range(len(rows))]
    return {"r": removed, "class_token": cls}, {"group": group, "output_tokens": out}


LAST = ("features", "q_block_last", "k_block_last")
OTHER_SIZES = {
    "prumerge_adaptive": ("prumerge", LAST, lambda x: recorded_prumerge(x, True, False)),
    "prumerge_fixed": ("prumerge", LAST, lambda x: recorded_prumerge(x, False, False)),
    "plus_adaptive": ("prumerge_plus", LAST, lambda x: recorded_prumerge(x, True, True)),
    "plus_fixed": ("prumerge_plus", LAST, lambda x: recorded_prumerge(x, False, True, share=0.25)),
    "visionzip": (
        "visionzip",
        ("features", "cls_feature", "cls_attention_heads", "keys_heads"),
        lambda x: recorded_visionzip(x, 11, 4),
    ),
    "divprune": ("divprune", ("projected",), lambda x: recorded_divprune(x, 0.2)),
    "trim_iqr": (
        "trim",
        ("features", "post_ln_weight", "post_ln_bias", "visual_projection", "clip_text_embeds"),
        lambda x: recorded_trim(x, -1),
    ),
    "trim_share": (
        "trim",
        ("features", "post_ln_weight", "post_ln_bias", "visual_projection", "clip_text_embeds"),
        lambda x: recorded_trim(x, 0.3),
    ),
    "cdpruner": (
        "cdpruner",
        ("projected", "clip_patch_embeds", "clip_text_embeds"),
        lambda x: recorded_cdpruner(x, 13),
    ),
    "vispruner": (
        "vispruner",
        ("features", "cls_attention_heads", "proj_w1", "proj_b1", "proj_w2", "proj_b2"),
        lambda x: recorded_vispruner(x, 17),
    ),
    "folder_once_scaled": ("folder", ("features",), lambda x: recorded_folder(x, 20, False)),
    "folder_once": ("folder", ("features",), lambda x: recorded_folder(x, 30, False)),
    "folder_often_with_cls": ("folder", ("cls_feature", "features"), lambda x: recorded_folder(x, 60, True)),
}


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_other_sizes_match_what_plain_loops_record(run, folder, name):
    method, used, record = OTHER_SIZES[name]
    inputs = drawn_inputs(len(name))
    parameters, recorded = record(inputs)

    def tensor(value):
        array = np.asarray(value)
        return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else np.float32))

    # Nothing but what the official function was given.
    save_file({key: torch.from_numpy(inputs[key]) for key in used}, folder / "inputs.safetensors")
    save_file({key: tensor(value) for key, value in recorded.items()}, folder / f"{name}.safetensors")
    meta = {"method": method, "parameters": parameters, "inputs_file": "inputs.safetensors", "inputs_used": list(used)}
    (folder / f"{name}.json").write_text(json.dumps(meta))
    code, found = lines(run, folder)
    assert (code, found[name]["verdict"]) == (0, "match"), found[name]
