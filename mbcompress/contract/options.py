"""Options: frozen pydantic models. A component *is* its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from mbcompress.errors import shown


class Options(BaseModel):
    """Options declared as pydantic fields with descriptions; unknown options are rejected.

    If a field's default is an `Options` object, a mapping for that field is merged into this default: missing keys keep
    the values of the field's default, not of its class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Use the class summary of nested options as the description of fields that have none."""
        for field in cls.model_fields.values():
            if field.description is None and isinstance(field.default, Options):
                field.description = type(field.default).summary()

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the class's docstring, for listings."""
        return (cls.__doc__ or "").strip().partition("\n")[0]

    def as_written(self) -> dict[str, Any]:
        """Return the options as in a recipe; objects that YAML cannot represent become descriptions."""
        return self.model_dump(mode="json", fallback=shown)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_true_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            annotation = cls.model_fields[info.field_name or ""].annotation
            kinds = set(get_args(annotation)) or {annotation}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"must be a number, got {shown(value)}")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _merge_into_default(cls, value: Any, info: ValidationInfo) -> Any:
        return _merged(cls.model_fields[info.field_name or ""].default, value)


def _merged(default: object, value: Any) -> Any:
    if not isinstance(default, Options) or not isinstance(value, Mapping):
        return value
    names = type(default).model_fields
    changed = {name: _merged(getattr(default, name, None), each) for name, each in value.items()}
    return {**{name: getattr(default, name) for name in names}, **changed}


class Component(Options):
    """A component that recipes refer to by `name`; subclasses declare their options as pydantic fields."""

    name: ClassVar[str]

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Options that tests create the component with. `({},)` uses the defaults; `()` means that the component cannot be
    tested without user input, such as a file."""
