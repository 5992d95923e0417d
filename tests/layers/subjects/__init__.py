"""Every layer of the library, as the contract takes it."""

from subjects import image, sequence, text

SUBJECTS = (*image.SUBJECTS, *text.SUBJECTS, *sequence.SUBJECTS)


def named(name):
    return next(one for one in SUBJECTS if one.name == name)
