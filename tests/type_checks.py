"""The type checker that :mod:`conftest` puts around our functions."""

from beartype import BeartypeConf, beartype

#: An int is a float here, as the language's own checkers have it.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
