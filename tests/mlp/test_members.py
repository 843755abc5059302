import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.training.mlp.data import Order, Standardisation
from pipeline.training.mlp.layers import MLP, Layout
from pipeline.training.mlp.members import Members
from pipeline.training.mlp.stack import EVALUATION_ROWS


def make_members(outputs=1, **settings):
    layout = Layout((10, 9, 7, outputs))
    return Members(layout, layout.initial([5, 6, 7]), (5, 6, 7), **settings)


def test_the_paper_s_network_has_427009_parameters():
    assert sum(parameter.numel() for parameter in MLP(512).parameters()) == 427_009
    assert Layout((512, 512, 256, 128, 1)).parameters == 427_009


def test_a_member_predicts_what_the_ordinary_module_of_its_seed_predicts():
    x = torch.randn(2 * EVALUATION_ROWS + 3, 10)
    predicted = make_members().predict(x)
    for k, seed in enumerate([5, 6, 7]):
        torch.manual_seed(seed)
        model = MLP(10, (9, 7))
        torch.testing.assert_close(predicted[k], model(x).detach())


def test_every_layer_of_every_member_starts_on_a_64_byte_boundary():
    layout = Layout((10, 9, 7, 1))
    rows = torch.zeros(3, layout.row)
    base = rows.data_ptr()
    for k in range(3):
        for weight, bias in layout.unpack(rows[k : k + 1]):
            assert (weight.data_ptr() - base) % 64 == 0
            assert (bias.data_ptr() - base) % 64 == 0


def test_a_prediction_does_not_depend_on_the_other_members():
    members = make_members()
    x = torch.randn(50, 10)
    alone = Members(members.layout, members.rows[2:].clone(), (7,))
    assert torch.equal(alone.predict(x)[0], members.predict(x)[2])


@pytest.mark.parametrize("standardised", [False, True])
def test_saved_members_come_back_the_same_and_give_the_same_bytes(tmp_path, standardised):
    learnt = Standardisation.learn(torch.randn(40, 10)) if standardised else None
    settings = {"labels": [20, 21, 22, 23]}
    members = make_members(4, loss="dldl_v2", loss_settings=settings, standardisation=learnt)
    members.save(tmp_path / "a.safetensors")
    loaded = Members.load(tmp_path / "a.safetensors")
    x = torch.randn(6, 10)
    assert torch.equal(loaded.predict(x), members.predict(x))
    assert (loaded.seeds, loaded.loss, loaded.loss_settings) == ((5, 6, 7), "dldl_v2", settings)
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_missing_damaged_or_foreign_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors does not exist"):
        Members.load(tmp_path / "none.safetensors")
    path = tmp_path / "cut.safetensors"
    make_members().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.safetensors is damaged"):
        Members.load(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not what belongs here: train again"):
        Members.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("metadata", "left_out", "sentence"),
    [
        ("{}", "", ": 'seeds' is missing"),
        ("not json", "", r" cannot be read as JSON \("),
        ("[]", "", ": input should be an object"),
        (None, "layers.0.bias", r" is not what training writes \('layers.0.bias' is missing"),
        (None, "layers.1.weight", r" is not what training writes \("),
    ],
)
def test_a_crafted_file_is_refused_by_name(tmp_path, metadata, left_out, sentence):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "crafted.safetensors"
    make_members().save(path)
    with safe_open(path, "pt") as file:
        described = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors.pop(left_out, None)
    save_file(tensors, path, described if metadata is None else {"vec2age": metadata})
    with pytest.raises(UserError, match=rf"crafted\.safetensors{sentence}.*: train again"):
        Members.load(path)


def test_a_file_with_more_seeds_than_models_is_refused(tmp_path):
    path = tmp_path / "more.safetensors"
    dataclasses.replace(make_members(), seeds=(5, 6, 7, 8)).save(path)
    with pytest.raises(UserError, match=r"layers\.0\.weight is \(3, 10, .*not \(4, 10, "):
        Members.load(path)


def test_vectors_of_another_width_are_refused_with_both_widths():
    with pytest.raises(UserError, match="vectors are 12 wide, the model takes 10"):
        make_members().predict(torch.zeros(3, 12))


def test_the_order_is_that_of_a_shuffling_loader_of_the_same_seed():
    order = Order(23, seed=4)
    loader = torch.utils.data.DataLoader(
        torch.arange(23), batch_size=5, shuffle=True, generator=torch.Generator().manual_seed(4)
    )
    for _ in range(3):
        assert torch.equal(order.epoch(), torch.cat(list(loader)))


def test_members_made_by_several_threads_at_once_are_those_of_their_seeds():
    layout = Layout((64, 128, 64, 1))
    seeds = range(40)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: layout.initial([seed])[0], seeds))
    torch.testing.assert_close(torch.stack(together), layout.initial(seeds), rtol=0, atol=0)
