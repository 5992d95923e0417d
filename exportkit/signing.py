"""Signs artifact folders with a key of one's own, and verifies them, as OpenSSF model-signing does: model.sig, a Sigstore bundle.

Source: OpenSSF Model Signing v1.0, https://github.com/ossf/model-signing-spec. No network and no transparency log is asked.
"""

import tempfile
from pathlib import Path
from typing import Any

from exportkit import store
from exportkit.errors import LoadError, StoreError
from exportkit.files import write_whole
from exportkit.plugins import needs

_LONGEST = 200  # characters of model-signing's own words


def sign(folder: Path, private_key: Path) -> Path:
    """Signs all files of a folder that is whole.

    Args:
        private_key: an elliptic-curve key (NIST P-256, P-384 or P-521), PEM, not encrypted.

    Returns:
        The file of the signature.

    Raises:
        StoreError: the folder is not what its manifest says, or the signature cannot be written.
        LoadError: the key cannot be used.
    """
    with needs("exportkit sign"):
        from model_signing import signing
    store.verify(folder)
    file = folder / store.SIGNATURE
    try:
        signer = signing.Config().set_hashing_config(_all_but_the_signature()).use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # model-signing lets through whatever its parser of keys raises
        text = f"is no private key that can be used: {_words(error)}"
        raise LoadError(text, where=str(private_key), todo="Name a PEM file of an elliptic-curve key.") from error
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / store.SIGNATURE
        signer.sign(folder, made)
        try:
            write_whole(file, made.read_bytes())
        except OSError as error:
            raise StoreError(f"cannot be written: {error.strerror}", where=str(file)) from error
    return file


def verify(folder: Path, public_key: Path) -> None:
    """Raises where a folder is not, file by file, what the owner of the key signed.

    Raises:
        LoadError: the key cannot be used.
        StoreError: there is no signature, another key made it, or files were added, changed or lost since.
    """
    with needs("--public-key"):
        from model_signing import verifying
    file = folder / store.SIGNATURE
    if not file.is_file():
        raise StoreError(
            "there is no signature", where=str(file), todo="`exportkit sign` writes it; without --public-key none is asked for."
        )
    try:
        verifier = verifying.Config().set_hashing_config(_all_but_the_signature()).use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:
        raise LoadError(
            f"is no public key that can be used: {_words(error)}", where=str(public_key), todo="Name a PEM file of an elliptic-curve key."
        ) from error
    try:
        verifier.verify(folder, file)
    except Exception as error:
        text = f"is not of {public_key} and of these files: {_words(error)}"
        raise StoreError(text, where=str(file), todo="Do not use the folder: it is not what the owner of the key signed.") from error


def _all_but_the_signature() -> Any:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[store.SIGNATURE], ignore_git_paths=False)


def _words(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    text = text.partition(": Expected")[0]  # two digests as Python's bytes follow
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
