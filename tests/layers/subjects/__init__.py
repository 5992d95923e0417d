"""Every layer of the library, as the contract takes it."""

from subjects import alignments, image, paths, sequence, text

SUBJECTS = (*image.SUBJECTS, *text.SUBJECTS, *sequence.SUBJECTS, *paths.SUBJECTS, *alignments.SUBJECTS)


def named(name):
    return next(one for one in SUBJECTS if one.name == name)
