"""Ending a drawing before its last step returns the picture so far."""

import pochade


def test_the_picture_as_it_is_at_a_step_nears_the_finished_one_and_is_it_at_the_end() -> None:
    request = pochade.Request(prompt="a red apple", seed=7, steps=4, sampler="Euler")
    early = []
    for progress in pochade.load().stream(request):
        now = progress.now()
        assert now.images[0].size == (128, 128) and now.seeds == [7]
        early.append(now.images[0].tobytes())
        if progress.result is not None:
            assert now.infotexts == progress.result.infotexts
            finished = progress.result.images[0].tobytes()
    assert early[-1] == finished

    def distance(one: bytes) -> int:
        return sum(abs(a - b) for a, b in zip(one, finished, strict=True))

    assert distance(early[0]) > distance(early[2]) > 0
