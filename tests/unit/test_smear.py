from stream.sources.smear import Smear


def test_a_loss_spoils_what_comes_until_a_key_picture() -> None:
    smear = Smear()
    assert not smear.covers(0.0, is_key=False)
    smear.begin(1.0)
    assert smear.covers(1.1, is_key=False) and smear.covers(10.9, is_key=False)
    assert not smear.covers(10.95, is_key=True) and not smear.covers(10.96, is_key=False)


def test_a_camera_that_sends_no_key_pictures_is_believed_after_a_while_without_loss() -> None:
    smear = Smear()
    smear.begin(0.0)
    smear.begin(5.0)
    assert smear.covers(15.0, is_key=False) and not smear.covers(15.1, is_key=False)
    assert not smear.covers(15.2, is_key=False)
