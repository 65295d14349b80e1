from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tinynas.errors import UsageError
from tinynas.validation import validated


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wheel(Strict):
    inches: int = Field(ge=1)
    tube: str = ""


class Bicycle(Strict):
    name: str
    wheels: tuple[Wheel, ...] = ()
    spares: dict[str, Wheel] = {}
    spare: Wheel | None = None


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({}, "name: is missing"),
        ({"nmae": "a"}, "nmae: there is no such key; did you mean 'name'? (and 1 more)"),
        (
            {"name": "a", "bell": 1},
            "bell: there is no such key; known: name, wheels, spares, spare",
        ),
        (
            {"name": "a", "wheels": [{"inches": 2}, {"inches": 2, "tubes": "x"}]},
            "wheels.1.tubes: there is no such key; did you mean 'tube'?",
        ),
        (
            {"name": "a", "spares": {"left": {"inches": 2, "colour": "x"}}},
            "spares.left.colour: there is no such key; known: inches, tube",
        ),
        (
            {"name": "a", "spare": {"inch": 2}},
            "spare.inch: there is no such key; did you mean 'inches'? (and 1 more)",
        ),
        ({"name": "a", "wheels": 3}, "wheels: must be a list, `[a, b]`, got 3"),
        ({"name": "a", "spares": [1]}, "spares: must be a mapping, `key: value`, got [1]"),
        ({"name": "a", "spare": "b"}, "spare: must be a mapping, `key: value`, got 'b'"),
        ([1], "top level: must be a mapping, `key: value`, got [1]"),
        (
            {"name": "a", "spare": {"inches": 0}},
            "spare.inches: Input should be greater than or equal to 1, got 0",
        ),
        (
            {"name": "a", "spare": {"inches": "x" * 1000}},
            "spare.inches: Input should be a valid integer, unable to parse string as an integer, "
            f"got '{'x' * 99}...",
        ),
    ],
)
def test_a_complaint_names_place_rule_and_value(content: Any, wanted: str) -> None:
    with pytest.raises(UsageError) as error:
        validated(Bicycle, content, "garage.yaml")
    assert str(error.value) == f"garage.yaml: {wanted}"


def test_good_content_becomes_the_model() -> None:
    found = validated(Bicycle, {"name": "a", "wheels": [{"inches": 28}]}, "garage.yaml")
    assert found == Bicycle(name="a", wheels=(Wheel(inches=28),))
