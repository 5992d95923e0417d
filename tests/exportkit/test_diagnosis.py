"""Where a fault lies, in words."""

from exportkit import diagnosis


def test_a_line_in_a_package_is_told_from_the_package_on_and_torchs_own_are_none():
    frames = [("/v/site-packages/shop/nets/basket.py", 7), ("/v/site-packages/torch/export/_trace.py", 9)]
    assert diagnosis.innermost_of_packages(frames) == "shop/nets/basket.py:7"
    assert diagnosis.innermost_of_packages(frames[1:]) == ""
