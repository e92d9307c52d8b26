"""The engine: songs that depend on nothing but themselves, and everything that a song can be asked to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from samplernn.config import ModelConfig
from samplernn.errors import BadInput
from samplernn.folding import FoldedModel, fold
from samplernn.generate.backends import choose_backend, why_no_native
from samplernn.generate.engine import Engine, generate_whole
from samplernn.generate.piece import read_piece
from samplernn.generate.song import Song
from samplernn.generate.torch_backend import TorchBackend
from samplernn.quantize import decode, encode, to_pcm
from tests.samplernn.test_model import made
from tests.sounds import write_sound

RATE = 1_000
BACKENDS = ["torch", *([] if why_no_native() else ["native"])]


@pytest.fixture(params=BACKENDS)
def engine(request) -> Callable[..., Engine]:
    """Makes an engine on every backend that is here, in float32."""

    def open_engine(model: FoldedModel, slots: int = 4, **how) -> Engine:
        device = torch.device("cpu")
        return Engine(model, choose_backend(model, device, wanted=request.param, slots=slots, **how)[0], RATE)

    return open_engine


@pytest.fixture
def sound(engine) -> Callable[..., list[np.ndarray]]:
    """The PCM of some songs of a model."""

    def made_of(model: FoldedModel, *songs: Song, **how) -> list[np.ndarray]:
        return [whole.pcm for whole in generate_whole(engine(model, **how), songs)]

    return made_of


@pytest.fixture(scope="module")
def folded() -> FoldedModel:
    return fold(made(ModelConfig(frame_sizes=(4, 16), dim=16, n_rnn=2, emb_size=8, q_levels=64), 3))


@pytest.fixture(scope="module")
def silent(folded) -> FoldedModel:
    """A model that says silence, and nothing else."""
    certain = torch.full_like(folded.b_out, -100.0)
    certain[folded.config.q_zero] = 100.0
    return replace(folded, w_out=torch.zeros_like(folded.w_out), b_out=certain)


def test_a_song_is_the_same_alone_in_a_batch_and_on_two_threads(sound, folded):
    songs = [Song(5, i, 1500 + 170 * i, temperature=0.8 + 0.05 * i) for i in range(7)]
    together = sound(folded, *songs)
    threads = torch.get_num_threads()
    for song, pcm in zip(songs, together, strict=True):
        assert len(pcm) == song.samples
        assert np.array_equal(sound(folded, song)[0], pcm)
    torch.set_num_threads(3 - min(2, threads))
    assert all(map(np.array_equal, sound(folded, *songs[::-1]), together[::-1]))
    torch.set_num_threads(threads)
    assert not np.array_equal(together[0][:1000], together[1][:1000])


def test_songs_of_very_different_lengths_keep_the_batch_full_and_are_drawn_lazily(engine, folded):
    lengths, drawn = [5000, 1, 17, 1024, 3000, 1, 2048, 900], []

    def line() -> Iterator[Song]:
        for index, samples in enumerate(lengths):
            drawn.append(index)
            yield Song(1, index, samples)

    ahead, finished, got = [], 0, dict.fromkeys(range(len(lengths)), 0)
    for block in engine(folded, slots=2).generate(line()):
        ahead.append(len(drawn) - finished)
        assert block.start == got[block.song]
        got[block.song] += len(block.pcm)
        finished += block.last
    assert list(got.values()) == lengths
    assert max(ahead) <= 2


def test_a_song_interrupted_at_any_block_goes_on_sample_by_sample(engine, folded):
    prompt = np.random.default_rng(0).integers(0, 64, 1500).astype(np.int16)
    song = Song(
        2, 9, 4500, temperature=((0, 1.0), (1, 0.7)), top_p=0.9, h0="random", prompt=prompt, heard=False,
        on_trap="restart",
    )  # fmt: skip
    others = [Song(3, i, 6000) for i in range(3)]
    blocks = list(engine(folded).generate([song]))
    among = engine(folded).generate([others[0], song, *others[1:]])
    states = [block.save() for block in among if block.song == 1]
    for stop in (1, len(blocks) // 2, len(blocks) - 1):
        kept = load_arrays(save_arrays(states[stop - 1]))
        rest = engine(folded).generate([others[2], replace(song, state=kept)])
        again = [block for block in rest if block.song == 1]
        assert [block.start for block in again] == [block.start for block in blocks[stop:]]
        assert all(np.array_equal(a.pcm, b.pcm) for a, b in zip(again, blocks[stop:], strict=True))


def test_a_song_that_leaves_frees_its_place_and_goes_on_elsewhere_to_the_same_samples(engine, folded):
    wanted = [Song(2, index, 4500) for index in range(3)]
    undisturbed = list(engine(folded).generate(wanted[:1]))
    waiting, seen, asked, left = iter(wanted), set[int](), False, False

    def next_song() -> Song | None:
        nonlocal asked
        first, asked = not asked, True
        return next(waiting, None) if first or left else None

    for block in engine(folded).serve(next_song):
        seen.add(block.song)
        if block.song == 0:
            assert not left, "a song that left was made further"
            state, left = block.save(), True
            block.leave()
    assert seen == {0, 1, 2}
    rest = list(engine(folded).generate([replace(wanted[0], state=state)]))
    assert [block.start for block in rest] == [block.start for block in undisturbed[1:]]
    assert all(np.array_equal(a.pcm, b.pcm) for a, b in zip(rest, undisturbed[1:], strict=True))


def test_a_song_whose_state_is_its_end_has_nothing_left_but_the_end(engine, folded):
    (last,) = [block.save() for block in engine(folded).generate([Song(2, 9, 500)]) if block.last]
    (block,) = engine(folded).generate([Song(2, 9, 500, state=last)])
    assert (block.start, len(block.pcm), block.last) == (500, 0, True)


def test_a_state_of_another_engine_or_a_block_that_is_past_is_refused(engine, folded):
    stream = engine(folded).generate([Song(2, 9, 3000)])
    first = next(stream)
    state = first.save()
    next(stream)
    with pytest.raises(RuntimeError, match="before the next block"):
        first.save()
    with pytest.raises(BadInput, match="was begun with engine"):
        list(engine(folded, precision="bf16").generate([Song(2, 9, 3000, state=state)]))


def test_a_schedule_is_what_it_says_at_every_sample(sound, folded):
    bias = folded.b_out.clone()
    bias[0] = -100  # code 0 decodes as code 1 does
    folded = replace(folded, b_out=bias)
    plain, cold = sound(folded, Song(1, 0, 3000)), sound(folded, Song(1, 0, 3000, temperature=0))
    switch = 2048 / RATE
    (got,) = sound(folded, Song(1, 0, 3000, temperature=((0, 1.0), (switch - 1 / RATE, 1.0), (switch, 0.0))))
    assert np.array_equal(got[:2048], plain[0][:2048])
    codes = encode(got, "mu-law", 64)
    logits = TorchBackend(folded, 1).teacher_forced(np.pad(codes, (0, 8))[None])[0, :3000]
    assert np.array_equal(logits[2048:].argmax(axis=1), codes[2048:])
    assert np.array_equal(sound(folded, Song(1, 0, 3000, temperature=((0, 1e-4),)))[0], cold[0])


def test_a_prompt_is_forced_and_heard_or_left_out(sound, folded):
    prompt = np.random.default_rng(0).integers(1, 64, 1100).astype(np.int16)
    heard, left_out = sound(
        folded, Song(1, 0, 3000, prompt=prompt), Song(1, 0, 1900, prompt=prompt, heard=False)
    )
    assert np.array_equal(heard[:1100], to_pcm(decode(prompt, "mu-law", 64)))
    assert np.array_equal(left_out, heard[1100:])
    assert not np.array_equal(heard[1100:], sound(folded, Song(1, 0, 3000))[0][1100:])


def test_h0_is_the_models_zeros_or_the_songs_own(sound, folded):
    learned = replace(
        folded, tiers=tuple(replace(tier, h0=torch.full_like(tier.h0, 0.4)) for tier in folded.tiers)
    )
    random = [sound(learned, Song(1, i, 600, h0="random"))[0] for i in (0, 0, 1)]
    zeros = sound(learned, Song(1, 0, 600, h0="zeros"))[0]
    assert np.array_equal(zeros, sound(folded, Song(1, 0, 600))[0])
    assert np.array_equal(random[0], random[1])
    assert not np.array_equal(random[0], random[2])
    assert len({pcm.tobytes() for pcm in (zeros, random[0], sound(learned, Song(1, 0, 600))[0])}) == 3


def test_features_follow_the_song_and_the_last_one_stays(sound, folded):
    top = folded.tiers[-1]
    rows = torch.randn(2, top.layers[0].bias.shape[0], generator=torch.Generator().manual_seed(1))
    layers = tuple(replace(layer, w_x=torch.cat((layer.w_x, rows))) for layer in top.layers)
    model = replace(folded, tiers=(folded.tiers[0], replace(top, layers=layers)))
    features = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    padded = np.concatenate([features, np.tile(features[-1], (100, 1))])
    one, other = sound(model, Song(1, 0, 2400, features=features), Song(1, 0, 2400, features=padded), slots=2)
    assert np.array_equal(one, other)
    (less,) = sound(model, Song(1, 0, 2400, features=features[:50]), slots=2)
    assert np.array_equal(less[: 50 * 16], one[: 50 * 16])
    assert not np.array_equal(less, one)
    with pytest.raises(BadInput, match="this model is conditioned"):
        sound(model, Song(1, 0, 100))
    with pytest.raises(BadInput, match="without features"):
        sound(folded, Song(1, 0, 100, features=features))


def test_a_trap_is_reported_and_kept_or_begun_anew_at_most_so_often(engine, silent):
    seconds = 9
    kept, again = generate_whole(
        engine(silent),
        [Song(1, 0, seconds * RATE), Song(1, 1, seconds * RATE, on_trap="restart", max_restarts=2)],
    )
    assert [(c.trap.kind, c.trap.start, c.take) for c in kept.traps] == [("silence", 0, 0)]
    assert kept.take == 0
    assert [(c.trap.kind, c.take) for c in again.traps] == [("silence", 0), ("silence", 1), ("silence", 2)]
    assert again.take == 2
    assert len(again.pcm) == seconds * RATE


def test_a_restart_draws_something_else_and_the_same_every_time(engine, folded):
    certain = torch.zeros_like(folded.b_out)
    certain[5] = 9.0  # one loud level nearly all the time: DC
    stuck = replace(folded, w_out=torch.zeros_like(folded.w_out), b_out=certain)
    song = Song(4, 2, 7 * RATE, on_trap="restart", max_restarts=1)
    first, second = generate_whole(engine(stuck), [song])[0], generate_whole(engine(stuck, 2), [song])[0]
    kept = generate_whole(engine(stuck), [replace(song, on_trap="keep")])[0]
    assert {caught.trap.kind for caught in first.traps} >= {"dc"}
    assert np.array_equal(first.pcm, second.pcm)
    assert not np.array_equal(first.pcm, kept.pcm)


def test_only_what_is_drawn_is_judged(engine, folded):
    prompt = np.full(7 * RATE, 32, dtype=np.int16)
    (calm,) = generate_whole(engine(folded), [Song(1, 0, 8 * RATE, prompt=prompt)])
    assert calm.traps == ()


BAD = {
    "no length": ({"samples": 0}, "lasts from one sample"),
    "a year": ({"samples": 365 * 86_400 * RATE}, "24 hours"),
    "negative temperature": ({"temperature": -1.0}, "temperature"),
    "temperature that is no number": ({"temperature": float("nan")}, "temperature"),
    "schedule with a hole": ({"temperature": ((0, 1.0), (1, float("inf")))}, "temperature"),
    "empty schedule": ({"temperature": ()}, "temperature"),
    "top_p of nothing": ({"top_p": 0.0}, "top_p"),
    "prompt shorter than a frame": ({"prompt": np.zeros(15, dtype=np.int16)}, "shorter than the model's frame of 16"),
    "prompt as long as the song": ({"prompt": np.zeros(100, dtype=np.int16)}, "leave nothing"),
    "prompt of another quantiser": ({"prompt": np.full(50, 64, dtype=np.int16)}, r"\[0, 64\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_song_that_can_not_be_drawn_is_refused_in_one_line(sound, folded, name):
    given, said = BAD[name]
    with pytest.raises(BadInput, match=said) as error:
        sound(folded, Song(**{"seed": 1, "index": 0, "samples": 100, **given}))
    assert "\n" not in str(error.value)


def test_prompt_is_read_from_any_rate_and_place(tmp_path):
    path = write_sound(tmp_path / "riff.flac", seconds=2, rate=22_050, channels=2)
    whole = read_piece("prompt", str(path), 4_000, 0, 2)
    assert len(whole) == 8_000
    assert np.array_equal(read_piece("prompt", str(path), 4_000, 0.5, 0.25), whole[2000:3000])
    assert np.abs(whole.astype(int)).max() > 1000
    with pytest.raises(BadInput, match=r"lasts 2\.00 s.*lower offset or seconds"):
        read_piece("prompt", str(path), 4_000, 1.9, 0.2)
    with pytest.raises(BadInput, match=r"nothing\.wav can't be read"):
        read_piece("prompt", str(tmp_path / "nothing.wav"), 4_000, 0, 1)
    (tmp_path / "text.wav").write_text("la la la")
    with pytest.raises(BadInput, match=r"text\.wav can't be used"):
        read_piece("prompt", str(tmp_path / "text.wav"), 4_000, 0, 1)
