"""A value over time as a person writes it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from samplernn.config import GenerateConfig
from samplernn.schedule import parse_schedule


def test_points_in_seconds_minutes_and_hours():
    text = "0:1.0, 30s:0.9,1.5min: 1.05 , 2m:1, 1h:.5"
    assert parse_schedule(text, 0, 10) == ((0, 1.0), (30, 0.9), (90, 1.05), (120, 1.0), (3600, 0.5))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not a point"),
        ("0:1.0,", "'' is not a point"),
        ("1.0", "'1.0' is not a point"),
        ("0:1, 3d:1", "'3d:1' is not a point"),
        ("-1:1", "'-1:1' is not a point"),
        ("0:warm", "'warm' at 0 is not a number from 0 to 10"),
        ("0:nan", "'nan' at 0"),
        ("0:-1", "'-1' at 0"),
        ("0:11", "'11' at 0"),
        ("30:1, 0.5min:2", "the time 0.5min comes after 30 s; put the points in order"),
    ],
)
def test_point_that_breaks_a_rule_is_named(text, said):
    with pytest.raises(ValueError, match=r".") as error:
        parse_schedule(text, 0, 10)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": -0.1}, "must be a number from 0 to 10, or a schedule"),
        ({"temperature": float("nan")}, "must be a number from 0 to 10"),
        ({"temperature": float("inf")}, "must be a number from 0 to 10"),
        ({"temperature": True}, "must be a number from 0 to 10"),
        ({"temperature": "0:1, 2s:99"}, "'99' at 2s"),
        ({"seconds": 0}, "greater than 0"),
        ({"seconds": 365 * 86_400}, "less than or equal to 86400"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"top_p": 0}, "greater than 0"),
        ({"prompt": {"path": "riff.wav", "length": 60}, "seconds": 60}, "leaves nothing"),
    ],
)
def test_songs_that_can_not_be_are_refused(given, said):
    with pytest.raises(ValidationError) as error:
        GenerateConfig(**given)
    assert error.value.error_count() == 1
    assert said in str(error.value)


def test_a_schedule_is_kept_as_it_is_written():
    assert GenerateConfig(temperature="0:1.0, 30s:0.9").temperature == "0:1.0, 30s:0.9"
    assert GenerateConfig(temperature=1).temperature == 1.0
