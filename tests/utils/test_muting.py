import logging

from mmpanoptic.utils.muting import muted


def test_messages_are_dropped_inside_alone_and_an_outer_limit_stays(caplog):
    logger = logging.getLogger("some part")
    caplog.set_level(logging.DEBUG)
    with muted():
        logger.info("dropped")
        logger.warning("told")
        with muted(logging.WARNING):
            logger.warning("dropped, too")
        logger.info("still dropped")
    logger.info("told again")
    assert caplog.messages == ["told", "told again"]
