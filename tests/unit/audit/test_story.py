"""What happened to one client of an audit, as it is told."""

from fanout.audit.story import MOMENTS_MAX, Story


def told(story: Story) -> list[str]:
    """Without the times."""
    return [line.partition("  ")[2] for line in str(story).splitlines()]


def test_the_first_message_after_each_beginning_is_told_of_and_no_other() -> None:
    story = Story()
    story.given("c", "before")
    story.is_in("let in")
    story.given("c", "first ....")
    story.given("c", "second")
    story.is_in("let in once more")
    story.given("d", "x" * 100, again=True)
    assert told(story) == ["let in", "given 'first ' in c", "let in once more", f"given '{'x' * 40}' in d again"]


def test_what_happens_again_and_again_is_one_moment_that_counts() -> None:
    story = Story()
    for what in ("refused", "refused", "refused", "let in", "refused"):
        story.tell(what)
    assert told(story) == ["refused, 3 times", "let in", "refused"]


def test_the_last_moments_are_kept() -> None:
    story = Story()
    for number in range(MOMENTS_MAX + 1):
        story.tell(f"moment {number}")
    assert told(story)[0] == "moment 1"
    assert len(told(story)) == MOMENTS_MAX
