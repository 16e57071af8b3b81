from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.physics import (
    PRESETS,
    SEQUENCES,
    Protocol,
    default_protocol,
    draw_protocol,
    flair,
    fse,
    gre,
    load_prior,
    mp2rage,
    mprage,
    mprage_closed_form,
    simulate,
    typical_protocols,
)

SIZE = (5, 6, 7)


def random_maps(samples: int, size: tuple[int, int, int] = SIZE, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([[60, 0.2, 2, 0], [100, 1.2, 40, 2.0]], dtype=dtype)[:, None, :, None, None, None]
    maps = low + (high - low) * torch.rand((samples, 4, *size), generator=generator, dtype=dtype)
    maps[..., 0] = 0
    return maps


def directly(maps: Tensor, protocol: Protocol) -> Tensor:
    """One image of maps (4, ...), by the signal function that the sequence names."""
    p: dict[str, Any] = dict(protocol.parameters)
    pd, r1, r2star, mtsat = maps
    closed = p.pop("closed_form", 0)
    if protocol.sequence in ("fse", "flair"):
        return {"fse": fse, "flair": flair}[protocol.sequence](pd, r1, r2star, **p)
    if protocol.sequence in ("gre", "gre_mt"):
        return gre(pd, r1, r2star, mtsat if protocol.sequence == "gre_mt" else None, **p)
    if protocol.sequence == "mp2rage":
        return mp2rage(pd, r1, r2star, flip_angles=(p.pop("flip_angle1"), p.pop("flip_angle2")), **p)
    if closed:
        td = p["tr"] - p["ti"] - p["n"] * p["tx"] / 2
        return mprage_closed_form(pd, r1, td=td, **{k: p[k] for k in ("tr", "tx", "flip_angle", "n")})
    return mprage(pd, r1, r2star, **p)


def mixed_protocols() -> list[Protocol]:
    prior = load_prior("physical")
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_protocol(prior, sequence, generator) for sequence in (*SEQUENCES, *reversed(SEQUENCES))]
    return [*drawn, default_protocol("mprage", closed_form=1)]


@pytest.mark.parametrize("size", [SIZE, (40, 30, 31)], ids=["one slab", "slabs in threads"])
def test_a_mixed_batch_is_its_samples_one_by_one(size: tuple[int, int, int]) -> None:
    protocols = mixed_protocols()
    maps = random_maps(len(protocols), size, torch.float64)
    images = simulate(maps, protocols)
    assert images.shape == (13, 1, *size)
    alone = torch.stack([directly(m, p) for m, p in zip(maps, protocols, strict=True)])
    torch.testing.assert_close(images[:, 0], alone, rtol=1e-12, atol=0)
    assert (images[..., 0] == 0).all()
    assert (images[..., 1:] > 0).all()


def test_slabs_keep_the_mode_of_the_caller() -> None:
    maps, protocols = random_maps(2, (40, 40, 40)), [default_protocol("fse"), default_protocol("gre")]
    expected = simulate(maps, protocols)
    with torch.inference_mode():
        inferred = simulate(maps, protocols)
    assert inferred.is_inference()
    assert torch.equal(inferred, expected)
    with torch.no_grad():
        assert not simulate(maps.requires_grad_(), protocols).requires_grad


def test_rows_image_one_anatomy_several_times() -> None:
    maps, protocols = random_maps(2), mixed_protocols()[:5]
    rows = [1, 0, 1, 1, 0]
    torch.testing.assert_close(simulate(maps, protocols, rows=rows), simulate(maps[rows], protocols))


def test_spin_echoes_decay_with_the_r2_asked_for() -> None:
    maps, protocols = random_maps(2), [default_protocol("fse"), default_protocol("flair")]
    r2 = 0.5 * maps[:, 2:3]
    te = torch.tensor([p.parameters["te"] for p in protocols]).view(2, 1, 1, 1, 1)
    undecayed = simulate(maps, protocols) * torch.exp(te * maps[:, 2:3])
    options = {"r2star": maps[:, 2:3], "r2": r2, "scaled": 0.7 * maps[:, 2:3]}
    for option, rate in options.items():
        image = simulate(maps, protocols, r2=r2, r2_from=option)  # type: ignore[arg-type]
        torch.testing.assert_close(image, undecayed * torch.exp(-te * rate))
    gradient_echo = [default_protocol("gre")] * 2
    assert torch.equal(simulate(maps, gradient_echo, r2=r2, r2_from="r2"), simulate(maps, gradient_echo))


def test_fields_reach_their_own_images() -> None:
    maps, angles = random_maps(3), (10.0, 15.0, 20.0)
    protocols = [default_protocol("gre", flip_angle=angle) for angle in angles]
    protocols.insert(1, default_protocol("mprage"))
    rows = [0, 1, 1, 2]
    gains = torch.tensor([0.5, 1.0, 2.0, 3.0]).view(4, 1, 1, 1, 1)
    tilts = torch.tensor([0.8, 1.0, 1.1, 1.2]).view(4, 1, 1, 1, 1)
    image = simulate(maps, protocols, receive=gains, transmit=tilts, rows=rows)
    turned = [
        default_protocol(p.sequence, flip_angle=p.parameters["flip_angle"] * tilt)
        for p, tilt in zip(protocols, tilts.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(image, gains * simulate(maps, turned, rows=rows))


def test_gradients_reach_the_maps() -> None:
    protocols = [default_protocol("fse"), default_protocol("gre_mt"), default_protocol("fse", te=0.02)]
    maps = random_maps(3, (2, 2, 3), torch.float64)[..., 1:].requires_grad_()
    assert torch.autograd.gradcheck(lambda m: simulate(m, protocols), (maps,))


def test_typical_contrasts_are_those_of_the_clinic() -> None:
    tissues = {"grey": (79.2, 0.617, 17.0, 0.9), "white": (70.0, 0.95, 21.0, 1.5), "csf": (100.0, 0.23, 2.0, 0.05)}
    maps = torch.tensor(list(tissues.values())).T.reshape(1, 4, 3, 1, 1)
    order = {}
    for name, protocol in typical_protocols().items():
        brightness = simulate(maps, [protocol]).flatten().tolist()
        order[name] = [t for _, t in sorted(zip(brightness, tissues, strict=True), reverse=True)]
    assert order["MPRAGE"] == order["T1w GRE"] == ["white", "grey", "csf"]
    assert order["T2w FSE"] == order["PDw FSE"] == ["csf", "grey", "white"]
    assert order["FLAIR"][-1] == "csf"
    assert order["MTw GRE"][-1] == "white"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_draw_of_every_preset_gives_finite_images(preset: str) -> None:
    """Also of impossible timings, for rates from those of water to beyond those of fat and iron."""
    rates = torch.tensor([0.0, 0.1, 0.23, 0.6, 1.0, 3.0, 6.0])
    pd = 80.0 * (rates > 0)
    maps = torch.stack([pd, rates, 20 * rates, rates]).reshape(1, 4, 7, 1, 1)
    prior = load_prior(preset)
    generator = torch.Generator().manual_seed(0)
    protocols = [draw_protocol(prior, sequence, generator) for sequence in prior for _ in range(400)]
    images = simulate(maps, protocols, rows=[0] * len(protocols))
    assert images.isfinite().all()
    assert (images >= 0).all()
    assert (images[:, 0, 0] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": torch.zeros(2, 3, *SIZE)}, r"shape \(2, 3, 5, 6, 7\); give floats of \(B, 4, I, J, K\)"),
        ({"maps": torch.zeros(2, 4, *SIZE, dtype=torch.int16)}, "torch.int16"),
        ({"protocols": [default_protocol("fse")]}, "1 protocols for 2 samples"),
        ({"rows": [0, 2]}, r"rows \[0, 2\] go beyond the 2 samples"),
        ({"r2_from": "r2"}, r"needs an R2 map of shape \(2, 1, 5, 6, 7\), none is given"),
        ({"r2_from": "r2", "r2": torch.zeros(2, 1, 1, 1, 1)}, r"it has shape \(2, 1, 1, 1, 1\)"),
        ({"r2_from": "t2"}, "unknown r2_from 't2'; there are r2star, r2, scaled"),
        ({"receive": torch.ones(3, 1, *SIZE)}, r"receive field has shape \(3, 1, 5, 6, 7\)"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"maps": random_maps(2), "protocols": [default_protocol("fse")] * 2, **change}
    with pytest.raises(InputError, match=message) as caught:
        simulate(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_images() -> None:
    protocols = mixed_protocols()
    maps = random_maps(len(protocols))
    b1 = torch.linspace(0.8, 1.2, len(protocols)).view(-1, 1, 1, 1, 1)
    images = simulate(maps.cuda(), protocols, transmit=b1.cuda(), receive=b1.cuda())
    torch.testing.assert_close(images.cpu(), simulate(maps, protocols, transmit=b1, receive=b1), rtol=1e-4, atol=1e-5)


def test_maps_in_half_precision_give_float32_images():
    maps = torch.tensor([70.0, 0.95, 21.0, 1.5]).view(1, 4, 1, 1, 1).expand(2, 4, 3, 3, 3)
    protocols = [default_protocol("mprage"), default_protocol("fse")]
    half = simulate(maps.half(), protocols)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, simulate(maps.half().float(), protocols), rtol=0, atol=0)
